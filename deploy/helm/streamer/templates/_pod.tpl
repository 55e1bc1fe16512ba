{{/* The pod that both workloads make. */}}
{{- define "streamer.pod" -}}
metadata:
  labels:
    # nothing of the chart's version: it alone is no reason to replace pods
    {{- include "streamer.selector" . | nindent 4 }}
    {{- with .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # of the static settings alone: running pods read label sets again, unless config.reload forbids it
    checksum/settings: {{ list (include "streamer.settings" .) .Values.files | toJson | sha256sum }}
    {{- if eq (dig "reload" "enabled" true .Values.config | toString) "false" }}
    checksum/label-sets: {{ list (include "streamer.labelSets" .) .Values.labelSetFiles | toJson | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "streamer.serviceAccountName" . }}
  automountServiceAccountToken: false
  # a Service called streamer would set STREAMER_... variables, which are settings
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- include "streamer.spread" . | nindent 4 }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: streamer
      {{- include "streamer.container" . | nindent 6 }}
  volumes:
    {{- include "streamer.volumes" . | nindent 4 }}
{{- end }}

{{- define "streamer.spread" -}}
{{- $ours := dict "matchLabels" (include "streamer.selector" . | fromYaml) -}}
{{- $nodes := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" -}}
{{- range default (list $nodes) .Values.topologySpreadConstraints }}
- {{ merge (dict) . (dict "labelSelector" $ours) | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}

{{- define "streamer.container" -}}
image: {{ include "streamer.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, --config, /etc/streamer/streamer.yaml]
ports:
  - name: http
    containerPort: {{ .Values.config.http.port }}
env:
  {{- include "streamer.env" . | nindent 2 }}
# ready once: the model is warm and the group has taken the pod in; /healthz is content while a model loads
startupProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: {{ .Values.probes.startup.periodSeconds }}
  timeoutSeconds: 5
  failureThreshold: {{ divf .Values.probes.startup.deadlineSeconds .Values.probes.startup.periodSeconds | ceil | int }}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  {{- toYaml .Values.probes.liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  {{- toYaml .Values.probes.readiness | nindent 2 }}
resources:
  {{- include "streamer.resources" . | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  {{- include "streamer.volumeMounts" . | nindent 2 }}
{{- end }}

{{- define "streamer.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if gt (int .Values.gpu.count) 0 -}}
{{- $gpu := dict .Values.gpu.resource (int .Values.gpu.count) -}}
{{- $_ := set $resources "limits" (merge (dict) $gpu (default dict $resources.limits)) -}}
{{- $_ := set $resources "requests" (merge (dict) $gpu (default dict $resources.requests)) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{- define "streamer.env" -}}
- {name: HF_HOME, value: /var/cache/streamer/huggingface}
{{- $requests := default dict .Values.resources.requests }}
{{- $limits := default dict .Values.resources.limits }}
{{- if or $requests.cpu $limits.cpu }}
# by itself PyTorch takes as many threads as the node has cores
- name: OMP_NUM_THREADS
  valueFrom:
    resourceFieldRef: {containerName: streamer, resource: {{ ternary "limits.cpu" "requests.cpu" (hasKey $limits "cpu") }}}
{{- end }}
{{- $exactlyOnce := eq (include "streamer.delivery" .) "exactly_once" }}
{{- if or $exactlyOnce .Values.staticMembership }}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- end }}
{{- if .Values.staticMembership }}
- {name: STREAMER_KAFKA__GROUP_INSTANCE_ID, value: $(POD_NAME)}
{{- end }}
{{- if $exactlyOnce }}
- {name: STREAMER_KAFKA__TRANSACTIONAL_ID, value: {{ printf "%s-$(POD_NAME)" .Values.config.kafka.group_id | quote }}}
{{- end }}
{{- range $name, $ref := .Values.secrets.env }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $ref.name }}, key: {{ $ref.key }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "streamer.volumeMounts" -}}
# a single file keeps what it was when the container started, so that pods still to be replaced do not see new settings
- {name: settings, mountPath: /etc/streamer/streamer.yaml, subPath: streamer.yaml, readOnly: true}
{{- if .Values.files }}
- {name: files, mountPath: /etc/streamer/files, readOnly: true}
{{- end }}
# a folder follows its ConfigMap
- {name: label-sets, mountPath: /etc/streamer/label-sets, readOnly: true}
{{- if or .Values.secrets.kafka .Values.secrets.pageToken }}
- {name: secrets, mountPath: /etc/streamer/secrets, readOnly: true}
{{- end }}
- {name: hub, mountPath: /var/cache/streamer}
- {name: tmp, mountPath: /tmp}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "streamer.volumes" -}}
- name: settings
  configMap:
    name: {{ include "streamer.fullname" . }}-settings
    items: [{key: streamer.yaml, path: streamer.yaml}]
{{- if .Values.files }}
- name: files
  configMap:
    name: {{ include "streamer.fullname" . }}-settings
    items:
      {{- range $name, $_ := .Values.files }}
      - {key: {{ $name }}, path: {{ $name }}}
      {{- end }}
{{- end }}
- name: label-sets
  configMap:
    name: {{ include "streamer.labelSetsConfigMap" . }}
{{- if or .Values.secrets.kafka .Values.secrets.pageToken }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $property, $ref := .Values.secrets.kafka }}
      - secret: {name: {{ $ref.name }}, items: [{key: {{ $ref.key }}, path: {{ $property }}}]}
      {{- end }}
      {{- with .Values.secrets.pageToken }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: page-token}]}
      {{- end }}
{{- end }}
{{- if not .Values.hubCache.enabled }}
- name: hub
  emptyDir: {}
{{- else if or .Values.hubCache.existingClaim (eq .Values.kind "Deployment") }}
- name: hub
  persistentVolumeClaim: {claimName: {{ include "streamer.hubClaim" . }}}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: {{ .Values.tmpSizeLimit }}}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Claim of the hub's cache: (list $ the access mode that is the default). */}}
{{- define "streamer.hubClaimSpec" -}}
{{- $cache := (index . 0).Values.hubCache -}}
accessModes: {{ default (list (index . 1)) $cache.accessModes | toJson }}
{{- with $cache.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests: {storage: {{ $cache.size }}}
{{- end }}
