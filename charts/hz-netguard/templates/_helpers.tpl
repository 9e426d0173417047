{{- define "hz-netguard.labels" -}}
app.kubernetes.io/name: hz-netguard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hz
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
