{{/*
What the schema of the values cannot say. Each refusal is one line: what is wrong, and what to do.
*/}}
{{- define "streamer.checks" -}}
{{- include "streamer.checkSettings" . -}}
{{- include "streamer.checkLabelSets" . -}}
{{- include "streamer.checkSecrets" . -}}
{{- include "streamer.checkWorkload" . -}}
{{- include "streamer.checkScaling" . -}}
{{- if .Values.autoscaling.keda.enabled -}}
{{- include "streamer.checkKeda" . -}}
{{- end -}}
{{- end }}

{{- define "streamer.checkSettings" -}}
{{- $config := .Values.config -}}
{{- if not $config.streams -}}
{{- fail "config.streams: is empty; name the input topics, each with output, dead_letter and label_set (see examples/)" -}}
{{- end -}}
{{- if not $config.kafka.bootstrap_servers -}}
{{- fail "config.kafka.bootstrap_servers: is empty; give the cluster's host:port" -}}
{{- end -}}
{{- if eq $config.kafka.bootstrap_servers "embedded" -}}
{{- fail "config.kafka.bootstrap_servers: an embedded broker dies with its pod; give a cluster's host:port" -}}
{{- end -}}
{{- if eq (toString $config.http.enabled) "false" -}}
{{- fail "config.http.enabled: false, but probes and metrics need the HTTP port; remove it" -}}
{{- end -}}
{{- if not $config.http.port -}}
{{- fail "config.http.port: 0 takes any port, but probes and metrics need a known one; e.g. 9464" -}}
{{- end -}}
{{- end }}

{{- define "streamer.checkLabelSets" -}}
{{- if and .Values.labelSetsConfigMap (or .Values.labelSets .Values.labelSetFiles) -}}
{{- fail "labelSetsConfigMap: stands beside labelSets or labelSetFiles; keep one" -}}
{{- end -}}
{{- if not .Values.labelSetsConfigMap -}}
{{- if not .Values.labelSets -}}
{{- fail "labelSets: is empty; give label sets, or name a ConfigMap that holds them in labelSetsConfigMap" -}}
{{- end -}}
{{- $text := kindIs "string" .Values.labelSets -}}
{{- $sets := ternary (include "streamer.labelSets" . | fromYaml) .Values.labelSets $text -}}
{{- if kindIs "string" $sets.Error -}}
{{- fail (printf "labelSets: not a YAML mapping of label sets: %s" (regexReplaceAll "\\s+" $sets.Error " ")) -}}
{{- end -}}
{{- range .Values.config.streams -}}
{{- if not (hasKey $sets .label_set) -}}
{{- fail (printf "config.streams: '%s' names the label set '%s', which labelSets lacks" .topic .label_set) -}}
{{- end -}}
{{- end -}}
{{- range $name, $set := $sets -}}
{{- if $set.calibration -}}
{{- if not $text -}}
{{- fail (printf "labelSets.%s.calibration: fits labels in their order, and Helm sorts a mapping; give labelSets as text (--set-file labelSets=FILE)" $name) -}}
{{- end -}}
{{- if not (hasKey $.Values.labelSetFiles (trimPrefix "label-sets/" $set.calibration)) -}}
{{- fail (printf "labelSets.%s.calibration: %s is not there; write label-sets/NAME, and put the file NAME under labelSetFiles" $name $set.calibration) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "streamer.checkSecrets" -}}
{{- range $property, $value := default dict .Values.config.kafka.properties -}}
{{- if hasKey $.Values.secrets.kafka $property -}}
{{- fail (printf "config.kafka.properties.%s: stands under secrets.kafka too; keep that" $property) -}}
{{- end -}}
{{- if and (kindIs "string" $value) (regexMatch "(?i)password|secret|\\.key\\.pem$|oauthbearer\\.(config|token)|jaas" $property) -}}
{{- fail (printf "config.kafka.properties.%s: a secret as a value; put it into a Secret and name that under secrets.kafka" $property) -}}
{{- end -}}
{{- end -}}
{{- range $header, $value := dig "tracing" "headers" dict .Values.config -}}
{{- if and (kindIs "string" $value) (regexMatch "(?i)auth|key|token|secret|password" $header) -}}
{{- fail (printf "config.tracing.headers.%s: a secret as a value; write {env: NAME}, and name its Secret under secrets.env" $header) -}}
{{- end -}}
{{- end -}}
{{- $page := default dict .Values.config.page -}}
{{- if and $page.show_text (not $page.token) (not .Values.secrets.pageToken) -}}
{{- fail "config.page.show_text: everybody who reaches the pods could read the texts; name a Secret under secrets.pageToken" -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if hasKey . "value" -}}
{{- if hasPrefix "STREAMER_" .name -}}
{{- fail (printf "extraEnv: %s overrides a setting unseen; put it under config" .name) -}}
{{- end -}}
{{- if regexMatch "(?i)password|secret|token$" .name -}}
{{- fail (printf "extraEnv: %s: a secret as a value; put it into a Secret and name that under secrets.env" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "streamer.checkWorkload" -}}
{{- $stateful := eq .Values.kind "StatefulSet" -}}
{{- $kafka := .Values.config.kafka -}}
{{- if and (eq (include "streamer.delivery" .) "exactly_once") (not $stateful) -}}
{{- fail "kind: Deployment, but config.delivery: exactly_once needs pods whose names stay; set kind: StatefulSet" -}}
{{- end -}}
{{- if and .Values.staticMembership (not $stateful) -}}
{{- fail "kind: Deployment, but staticMembership needs pods whose names stay; set kind: StatefulSet" -}}
{{- end -}}
{{- if $kafka.group_instance_id -}}
{{- fail "config.kafka.group_instance_id: the same for every pod, so that each puts the others out; set staticMembership: true" -}}
{{- end -}}
{{- if $kafka.transactional_id -}}
{{- fail "config.kafka.transactional_id: the same for every pod, so that each fences the others; remove it, the chart makes one for each" -}}
{{- end -}}
{{- $drain := int (include "streamer.drainSeconds" .) -}}
{{- if le (int .Values.terminationGracePeriodSeconds) $drain -}}
{{- fail (printf "terminationGracePeriodSeconds: %d, but a stop may take %d s (config.limits.drain_timeout_s, under exactly_once commit_deadline_s too, and 5 s to end); set it higher" (int .Values.terminationGracePeriodSeconds) $drain) -}}
{{- end -}}
{{- $live := .Values.probes.liveness -}}
{{- $patience := addf (default 30 .Values.config.http.stuck_after_s | float64) (mul $live.periodSeconds $live.failureThreshold) | floor | int -}}
{{- if lt $patience $drain -}}
{{- fail (printf "probes.liveness: restarts a pod after %d s, but a drain in a rebalance may take %d s; raise config.http.stuck_after_s" $patience $drain) -}}
{{- end -}}
{{- if and .Values.hubCache.enabled (not .Values.hubCache.existingClaim) (not $stateful) .Values.hubCache.accessModes (not (has "ReadWriteMany" .Values.hubCache.accessModes)) -}}
{{- fail "hubCache.accessModes: the pods of a Deployment share the volume; use ReadWriteMany, or kind: StatefulSet for one volume each" -}}
{{- end -}}
{{- end }}

{{- define "streamer.checkScaling" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if and $scaling.keda.enabled $scaling.hpa.enabled -}}
{{- fail "autoscaling: keda and hpa are both enabled, and would work against each other; keep one" -}}
{{- end -}}
{{- if or $scaling.keda.enabled $scaling.hpa.enabled -}}
{{- $max := int $scaling.maxReplicas -}}
{{- range .Values.config.streams -}}
{{- if not (hasKey $scaling.partitions .topic) -}}
{{- fail (printf "autoscaling.partitions: lacks '%s'; say how many partitions it has" .topic) -}}
{{- end -}}
{{- $partitions := int (index $scaling.partitions .topic) -}}
{{- if gt $max $partitions -}}
{{- fail (printf "autoscaling.maxReplicas: %d, but '%s' has %d partitions, and more pods stand idle; set it to %d at most" $max .topic $partitions $partitions) -}}
{{- end -}}
{{- end -}}
{{- if gt (int $scaling.minReplicas) $max -}}
{{- fail (printf "autoscaling.minReplicas: %d, above maxReplicas (%d)" (int $scaling.minReplicas) $max) -}}
{{- end -}}
{{- end -}}
{{- if $scaling.hpa.enabled -}}
{{- if lt (int $scaling.minReplicas) 1 -}}
{{- fail "autoscaling.minReplicas: 0 needs keda; an HPA keeps at least one pod" -}}
{{- end -}}
{{- if and (not $scaling.hpa.metrics) (not (dig "requests" "cpu" "" .Values.resources)) -}}
{{- fail "autoscaling.hpa: scales by percent of resources.requests.cpu, which is missing; set it, or give autoscaling.hpa.metrics" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "streamer.checkKeda" -}}
{{- $keda := .Values.autoscaling.keda -}}
{{- if and (lt (int .Values.autoscaling.minReplicas) 1) (eq (default "earliest" .Values.config.kafka.auto_offset_reset) "latest") -}}
{{- fail "autoscaling.minReplicas: 0, but with auto_offset_reset: latest a group that has committed nothing yet has no lag, and is never woken; set it to 1" -}}
{{- end -}}
{{- $topics := list -}}
{{- range .Values.config.streams -}}
{{- $topics = append $topics .topic -}}
{{- $partitions := int (index $.Values.autoscaling.partitions .topic) -}}
{{- $activation := int (dig .topic "activationLagThreshold" $keda.activationLagThreshold $keda.topics) -}}
{{- if le $activation $partitions -}}
{{- fail (printf "autoscaling.keda: activationLagThreshold of '%s' is %d; above its partitions (%d), or marks of transactions, which nobody reads, wake pods for nothing" .topic $activation $partitions) -}}
{{- end -}}
{{- end -}}
{{- range $topic, $_ := $keda.topics -}}
{{- if not (has $topic $topics) -}}
{{- fail (printf "autoscaling.keda.topics: no stream reads '%s'" $topic) -}}
{{- end -}}
{{- end -}}
{{- if not $keda.authenticationRef -}}
{{- include "streamer.checkKedaAuthentication" . -}}
{{- end -}}
{{- end }}

{{- define "streamer.checkKedaAuthentication" -}}
{{- $properties := default dict .Values.config.kafka.properties -}}
{{- if hasPrefix "SASL" (include "streamer.securityProtocol" .) -}}
{{- if not (has (include "streamer.saslMechanism" .) (list "PLAIN" "SCRAM-SHA-256" "SCRAM-SHA-512")) -}}
{{- fail (printf "autoscaling.keda: cannot log in by %s as streamer does; give autoscaling.keda.authenticationRef" (include "streamer.saslMechanism" .)) -}}
{{- end -}}
{{- range list "sasl.username" "sasl.password" -}}
{{- if not (hasKey $.Values.secrets.kafka .) -}}
{{- fail (printf "autoscaling.keda: takes %s from a Secret alone; name it under secrets.kafka" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if or (index $properties "ssl.ca.location") (index $properties "ssl.certificate.location") (index $properties "ssl.keystore.location") -}}
{{- fail "autoscaling.keda: cannot read files of the pods; put certificates into a Secret and name them under secrets.kafka (ssl.ca.pem, ssl.certificate.pem, ssl.key.pem)" -}}
{{- end -}}
{{- end }}
