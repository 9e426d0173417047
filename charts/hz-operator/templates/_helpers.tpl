{{- define "hz-operator.labels" -}}
{{ include "hz-operator.selector" . }}
app.kubernetes.io/part-of: hz
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "hz-operator.selector" -}}
app.kubernetes.io/name: hz-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The platform as the operator reads it: what the values say, and what only this release knows. */}}
{{- define "hz-operator.platform" -}}
{{- $own := dict "namespace" .Release.Namespace "serviceAccount" "hz-operator" "tenantRole" "hz-operator-tenant" -}}
{{- merge (dict "operator" $own) .Values.platform | toYaml -}}
{{- end -}}
