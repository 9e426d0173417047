{{- define "hz-storage.labels" -}}
app.kubernetes.io/name: hz-storage
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hz
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "hz-storage.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
