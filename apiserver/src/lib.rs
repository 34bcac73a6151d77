//! kube-apiserver: the Kubernetes API, served from bytes.
