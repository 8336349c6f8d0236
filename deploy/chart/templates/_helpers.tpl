{{/* Names are fixed: certificates, alerts and runbooks have them, and the API groups have one server in a cluster. */}}

{{/* Labels of an object or a pod. (name, component) */}}
{{- define "meshmeter.labels" -}}
app.kubernetes.io/name: {{ .name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/part-of: meshmeter
{{- end }}

{{/* What selects the aggregators. */}}
{{- define "meshmeter.aggregators" -}}
app.kubernetes.io/name: meshmeter
app.kubernetes.io/component: aggregator
{{- end }}

{{/* An image. (root, image: aggregator, mesh or filter) */}}
{{- define "meshmeter.image" -}}
{{- $image := index .root.Values.image .image -}}
{{- $tag := .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- printf "%s/%s%s" .root.Values.image.registry $image.name (ternary (printf "@%s" $image.digest) (printf ":%s" $tag) (ne $image.digest "")) -}}
{{- end }}

{{/* Every aggregator by its name, with commas. */}}
{{- define "meshmeter.addresses" -}}
{{- $hosts := list -}}
{{- range $nth := until (int .Values.aggregator.replicas) -}}
{{- $hosts = append $hosts (printf "meshmeter-%d.meshmeter-ingest.%s.svc.%s:7470" $nth $.Release.Namespace $.Values.clusterDomain) -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end }}

{{/* What is the same in every pod of ours. (root, values, component's name) */}}
{{- define "meshmeter.pod" -}}
automountServiceAccountToken: true
# Kubernetes would set variables for each service, MESHMETER_API_PORT and the like: flags are read from such names.
enableServiceLinks: false
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .values.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.tolerations }}
tolerations:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "meshmeter.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "meshmeter.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* A role bound to a service account of ours. (kind: Role or ClusterRole, role, account, root; of: name of the binding, if it is not the
role's; namespace: where, if it is not the release's) */}}
{{- define "meshmeter.binding" -}}
{{- $clusterWide := and (eq .kind "ClusterRole") (not .namespace) -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "ClusterRoleBinding" "RoleBinding" $clusterWide }}
metadata:
  name: {{ .of | default .role }}
  {{- if not $clusterWide }}
  namespace: {{ .namespace | default .root.Release.Namespace }}
  {{- end }}
  labels: {app.kubernetes.io/part-of: meshmeter}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .role }}
subjects:
- kind: ServiceAccount
  name: {{ .account }}
  namespace: {{ .root.Release.Namespace }}
{{- end }}

{{/* One pod at a time may be drained. (name, root, selector) */}}
{{- define "meshmeter.disruption" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {app.kubernetes.io/part-of: meshmeter}
spec:
  maxUnavailable: 1
  # A pod that is not ready serves nobody: it must not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- .selector | nindent 6 }}
{{- end }}

{{/* "true" where the control plane is ours. */}}
{{- define "meshmeter.hasControlPlane" -}}
{{- if and (eq .Values.mesh "app-mesh") (eq .Values.appMesh.controlPlane "meshmeter") -}}true{{- end -}}
{{- end }}

{{- define "meshmeter.failurePolicy" -}}
{{- .Values.appMesh.failurePolicy | default (ternary "Fail" "Ignore" .Values.appMesh.injectEnvoy) -}}
{{- end }}

{{/* Namespaces that take it to run the cluster, or us: never touched. */}}
{{- define "meshmeter.untouched" -}}
[kube-system, kube-public, kube-node-lease, {{ .Release.Namespace }}]
{{- end }}

{{/* "true" where samples wait on disk. */}}
{{- define "meshmeter.hasQueue" -}}
{{- if and (ne .Values.remoteWrite.receiver "none") .Values.remoteWrite.queue.disk -}}true{{- end -}}
{{- end }}

{{/* "true" where one replica writes, by a Lease. */}}
{{- define "meshmeter.hasLease" -}}
{{- if and (eq .Values.remoteWrite.receiver "other") (eq .Values.remoteWrite.output "totals") -}}true{{- end -}}
{{- end }}
