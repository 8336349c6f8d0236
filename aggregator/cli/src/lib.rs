//! The operator's commands, also as the kubectl plugin `kubectl-meshmeter`. They talk to
//! kube-apiserver only, with the user's own kubeconfig.
