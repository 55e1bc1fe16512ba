{{- define "streamer.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 52 characters: a StatefulSet's pods and what is derived from this name get suffixes. */}}
{{- define "streamer.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "streamer.selector" -}}
app.kubernetes.io/name: {{ include "streamer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "streamer.labels" -}}
{{ include "streamer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Begin of an object: (list $ apiVersion kind name, labels or nil, annotations or nil). */}}
{{- define "streamer.object" -}}
{{- $root := index . 0 -}}
apiVersion: {{ index . 1 }}
kind: {{ index . 2 }}
metadata:
  name: {{ index . 3 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "streamer.labels" $root | nindent 4 }}
    {{- with index . 4 }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with index . 5 }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "streamer.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "streamer.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- define "streamer.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (printf "%s-%s" .Chart.AppVersion (ternary "cuda" "cpu" (gt (int .Values.gpu.count) 0))) $image.tag }}
{{- end -}}
{{- end }}

{{- define "streamer.labelSetsConfigMap" -}}
{{ default (printf "%s-label-sets" (include "streamer.fullname" .)) .Values.labelSetsConfigMap }}
{{- end }}

{{/* The claim that a Deployment's pods share. */}}
{{- define "streamer.hubClaim" -}}
{{ default (printf "%s-hub" (include "streamer.fullname" .)) .Values.hubCache.existingClaim }}
{{- end }}
