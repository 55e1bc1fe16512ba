{{/*
The settings file. Label sets have a file of their own, and secrets are files that it refers to.
*/}}
{{- define "streamer.settings" -}}
{{- $settings := deepCopy .Values.config -}}
{{- $_ := set $settings "label_sets_file" "label-sets/label-sets.yaml" -}}
{{- $properties := default dict $settings.kafka.properties -}}
{{- range $property, $ref := .Values.secrets.kafka -}}
{{- $_ := set $properties $property (dict "file" (printf "/etc/streamer/secrets/%s" $property)) -}}
{{- end -}}
{{- if $properties -}}
{{- $_ := set $settings.kafka "properties" $properties -}}
{{- end -}}
{{- if .Values.secrets.pageToken -}}
{{- $page := default dict $settings.page -}}
{{- $_ := set $page "token" (dict "file" "/etc/streamer/secrets/page-token") -}}
{{- $_ := set $settings "page" $page -}}
{{- end -}}
{{ toYaml $settings }}
{{- end }}

{{/*
Label sets: text as it stands, or a mapping, which Helm sorts by name.
*/}}
{{- define "streamer.labelSets" -}}
{{- if kindIs "string" .Values.labelSets -}}
{{ .Values.labelSets }}
{{- else -}}
{{ toYaml .Values.labelSets }}
{{- end -}}
{{- end }}

{{/* Settings that the chart itself goes by, with streamer's own defaults. */}}
{{- define "streamer.delivery" -}}
{{ default "at_least_once" .Values.config.delivery }}
{{- end }}

{{/* Seconds that a stop may rightly take, streamer's own ending included. */}}
{{- define "streamer.drainSeconds" -}}
{{- $limits := default dict .Values.config.limits -}}
{{- $drain := default 30 $limits.drain_timeout_s | float64 -}}
{{- if eq (include "streamer.delivery" .) "exactly_once" -}}
{{- $drain = addf $drain (default 15 $limits.commit_deadline_s | float64) -}}
{{- end -}}
{{ addf $drain 5 | ceil | int }}
{{- end }}

{{/* Ports of bootstrap_servers, as a list in JSON; 9092 where one names none. */}}
{{- define "streamer.kafkaPorts" -}}
{{- $ports := list -}}
{{- range splitList "," .Values.config.kafka.bootstrap_servers -}}
{{- $port := regexFind ":[0-9]+\\s*$" . | trim | trimPrefix ":" -}}
{{- $ports = append $ports (int (default "9092" $port)) -}}
{{- end -}}
{{ uniq $ports | toJson }}
{{- end }}

{{/* kafka.properties.security.protocol and sasl.mechanism as librdkafka reads them: in any case, by either name. */}}
{{- define "streamer.securityProtocol" -}}
{{- $properties := default dict .Values.config.kafka.properties -}}
{{ index $properties "security.protocol" | default "plaintext" | toString | upper }}
{{- end }}
{{- define "streamer.saslMechanism" -}}
{{- $properties := default dict .Values.config.kafka.properties -}}
{{ coalesce (index $properties "sasl.mechanism") (index $properties "sasl.mechanisms") "GSSAPI" | toString | upper }}
{{- end }}
