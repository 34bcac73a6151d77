//! kubeadm: init, join, token, certs, reset.
