{{- define "multiraft-operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-operator" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "multiraft-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "multiraft-operator.labels" -}}
{{ include "multiraft-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "multiraft-operator.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end }}{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Namespaces to watch, as the operator's flag wants them; empty = all. */}}
{{- define "multiraft-operator.namespaces" -}}
{{- if eq .Values.watch.scope "Own" }}{{ .Release.Namespace }}
{{- else if eq .Values.watch.scope "Namespaces" }}{{ required "watch.namespaces: name at least one namespace when watch.scope is Namespaces" (join "," .Values.watch.namespaces) }}
{{- end }}
{{- end }}

{{/* The Secret with the operator's certificate; empty = none. */}}
{{- define "multiraft-operator.tlsSecret" -}}
{{- if and .Values.tls.secretName .Values.tls.issuerRef }}{{ fail "tls: give secretName or issuerRef, and not both" }}{{ end }}
{{- if .Values.tls.issuerRef }}{{ $_ := required "tls.issuerRef.name: must be given" .Values.tls.issuerRef.name }}{{ include "multiraft-operator.fullname" . }}-tls
{{- else }}{{ .Values.tls.secretName }}
{{- end }}
{{- end }}

{{/* What the operator may do where it watches; every verb is used, none is a wildcard. */}}
{{- define "multiraft-operator.rules" -}}
- apiGroups: [multiraft.atomix.io]
  resources: [multiraftclusters]
  verbs: [list, watch]
- apiGroups: [multiraft.atomix.io]
  resources: [multiraftclusters/status, raftpartitionslices/status]
  verbs: [patch]
- apiGroups: [multiraft.atomix.io]
  resources: [raftpartitionslices]
  verbs: [list, watch, create, patch]
# Owner references that block deletion need the right to set finalizers on the owner.
- apiGroups: [multiraft.atomix.io]
  resources: [multiraftclusters/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, create, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch, delete]
# Of clusters with spec.tls.certManager.
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
