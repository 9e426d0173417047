{{- define "hz-gateway.labels" -}}
app.kubernetes.io/name: hz-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hz
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
