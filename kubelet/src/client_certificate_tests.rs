//! The certificate's renewal against an API that signs what it is asked.

use super::*;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use std::sync::Arc;

/// A control plane that approves and signs at once, for `life` from now; it remembers what it was asked.
struct Signer {
    ca: Issuer<'static, KeyPair>,
    life: Duration,
    refuse: bool,
    requests: parking_lot::Mutex<Vec<(Timestamp, Value)>>,
}

impl Signer {
    fn new(life: Duration, refuse: bool) -> Arc<Self> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Arc::new(Self {
            ca: Issuer::new(params, KeyPair::generate().unwrap()),
            life,
            refuse,
            requests: parking_lot::Mutex::default(),
        })
    }

    fn client(self: &Arc<Self>) -> kube::Client {
        let signer = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let signer = signer.clone();
            async move { Ok::<_, std::convert::Infallible>(signer.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        assert_eq!(
            request.uri().path(),
            "/apis/certificates.k8s.io/v1/certificatesigningrequests"
        );
        let (method, query) = (
            request.method().clone(),
            request.uri().query().unwrap_or_default().to_owned(),
        );
        let value = if method == Method::POST {
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let mut made: Value = serde_json::from_slice(&bytes).unwrap();
            made["metadata"] = json!({"name": "csr-1", "resourceVersion": "1", "uid": "u"});
            self.requests.lock().push((Timestamp::now(), made.clone()));
            made
        } else if query.contains("watch=true") {
            // The list has told everything.
            return Response::new(Body::from(Vec::new()));
        } else {
            assert!(query.contains("fieldSelector=metadata.name%3Dcsr-1"), "{query}");
            let mut signed = self.requests.lock().last().unwrap().1.clone();
            signed["status"] = self.status(&signed);
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequestList",
                   "metadata": {"resourceVersion": "2"}, "items": [signed]})
        };
        Response::new(Body::from(serde_json::to_vec(&value).unwrap()))
    }

    fn status(&self, request: &Value) -> Value {
        use base64::Engine;
        let engine = base64::engine::general_purpose::STANDARD;
        if self.refuse {
            return json!({"conditions": [{"type": "Denied", "status": "True", "reason": "No", "message": "not you"}]});
        }
        let pem = String::from_utf8(
            engine
                .decode(request["spec"]["request"].as_str().unwrap())
                .unwrap(),
        )
        .unwrap();
        let mut asked = CertificateSigningRequestParams::from_pem(&pem).unwrap();
        validity(&mut asked.params, Duration::ZERO, self.life);
        let cert = asked.signed_by(&self.ca).unwrap().pem();
        json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": engine.encode(cert)})
    }
}

/// From `age` ago until `left` from now.
fn validity(params: &mut CertificateParams, age: Duration, left: Duration) {
    let now = Duration::from_secs(Timestamp::now().as_second().unsigned_abs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + (now - age);
    params.not_after = epoch + (now + left);
}

/// A certificate in place that is `age` old and ends in `left`.
fn in_place(dir: &Path, age: Duration, left: Duration) -> PathBuf {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    validity(&mut params, age, left);
    let pem = format!(
        "{}{}",
        params.self_signed(&key).unwrap().pem(),
        key.serialize_pem()
    );
    store(dir, &pem, Timestamp::from_second(1).unwrap()).unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn it_is_due_at_four_fifths_of_its_life() {
    let at = |second| Timestamp::from_second(second).unwrap();
    assert_eq!(renewal_due(at(1000), at(2000)), at(1800));
    assert_eq!(renewal_due(at(0), at(365 * 86_400)), at(292 * 86_400));
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    // Eight seconds of ten are over in one second.
    let current = in_place(dir.path(), 7 * SECOND, 3 * SECOND);
    let (from, until) = lifetime(&current).unwrap();
    let old = std::fs::read_to_string(&current).unwrap();
    let signer = Signer::new(Duration::from_secs(3600), false);
    let renewing = tokio::spawn(renew(signer.client(), dir.path().to_owned(), "n1".to_owned()));
    let renewed = async {
        while std::fs::read_to_string(&current).unwrap() == old {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(60 * SECOND, renewed).await.unwrap();
    renewing.abort();
    let requests = signer.requests.lock();
    let [(asked, request)] = requests.as_slice() else {
        panic!("asked {} times", requests.len());
    };
    assert!(
        *asked >= renewal_due(from, until) && *asked < until,
        "asked at {asked}, life {from} to {until}"
    );
    assert_eq!(
        request["spec"]["signerName"],
        "kubernetes.io/kube-apiserver-client-kubelet"
    );
    assert_eq!(
        request["spec"]["usages"],
        json!(["digital signature", "client auth"])
    );
    // The pair in the file belongs together, is for this node and lives on.
    let certs = keelson_base::tls::load_certs(&current).unwrap();
    let key = keelson_base::tls::load_key(&current).unwrap();
    let pair =
        rustls::sign::CertifiedKey::from_der(certs.clone(), key, &keelson_base::tls::provider()).unwrap();
    pair.keys_match().unwrap();
    let (_, cert) = X509Certificate::from_der(&certs[0]).unwrap();
    assert_eq!(cert.subject().to_string(), "O=system:nodes, CN=system:node:n1");
    assert!(lifetime(&current).unwrap().1 > until);
}

#[tokio::test]
async fn a_refused_request_leaves_the_old_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let current = in_place(dir.path(), 9 * SECOND, SECOND);
    let old = std::fs::read_to_string(&current).unwrap();
    let signer = Signer::new(SECOND, true);
    let why = request(&signer.client(), "n1").await.unwrap_err().to_string();
    assert_eq!(why, "certificate signing request csr-1 is denied: No not you");
    assert_eq!(std::fs::read_to_string(&current).unwrap(), old);
}
