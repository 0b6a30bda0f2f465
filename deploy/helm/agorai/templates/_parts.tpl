{{- define "agorai.labels" -}}
app.kubernetes.io/name: agorai
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "agorai.name" -}}
{{ .root.Release.Name }}-{{ .name }}
{{- end }}

{{- define "agorai.bus" -}}
{{- if .Values.nats.enabled -}}
{{- $servers := list -}}
{{- range $n := until (int .Values.nats.replicas) -}}
{{- $servers = append $servers (printf "tls://%s-nats-%d.%s-nats:4222" $.Release.Name $n $.Release.Name) -}}
{{- end -}}
{{- join "," $servers -}}
{{- else -}}
{{- required "name the bus in nats.url" .Values.nats.url -}}
{{- end -}}
{{- end }}

{{- define "agorai.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "agorai.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "agorai.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "agorai.labels" . | nindent 6 }}
{{- end }}

{{- define "agorai.reach" -}}
{{- $whole := dict "0.0.0.0/0" "[.]" "::/0" ":" -}}
{{- range .cidrs }}
- ipBlock:
    cidr: {{ . | quote }}
    {{- with index $whole . }}
    {{- $family := . }}
    except:
      {{- range $.except }}
      {{- if regexMatch $family . }}
      - {{ . | quote }}
      {{- end }}
      {{- end }}
    {{- end }}
{{- end }}
{{- end }}
