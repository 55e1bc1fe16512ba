{{/*
Groups of files/alerts.yaml, which is read as data: braces in it are Prometheus's, not Helm's.
*/}}
{{- define "streamer.ruleGroups" -}}
{{- $groups := list -}}
{{- range (.Files.Get "files/alerts.yaml" | fromYaml).groups -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- if not (has (default "" .alert) $.Values.prometheusRule.disabled) -}}
{{- if .alert -}}
{{- $_ := set . "labels" (merge (dict) $.Values.prometheusRule.alertLabels (default dict .labels)) -}}
{{- end -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (set . "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{ toYaml $groups }}
{{- end }}
