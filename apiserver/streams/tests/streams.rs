//! Whole connections: a client, the functions of this crate behind a server, and a backend that answers by script.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;

use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keelson_machinery::Status;
use keelson_streams::{Backend, Body, Streams, Target, exec, log, port_forward, proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

#[derive(Clone, Copy)]
enum Call {
    Exec,
    PortForward,
    Proxy,
    Log,
}

/// Serves one call at a time on a port of its own.
async fn front(call: Call, backend: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request: Request<Incoming>| async move {
                let answer: Result<Response<Body>, Status> = serve(call, backend, request).await;
                Ok::<_, std::convert::Infallible>(answer.unwrap_or_else(|status| {
                    let body = Full::new(status.message.into())
                        .map_err(|never| match never {})
                        .boxed_unsync();
                    Response::builder().status(status.code).body(body).unwrap()
                }))
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    address
}

async fn serve(
    call: Call,
    backend: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Status> {
    let path_and_query = match call {
        Call::Proxy => request
            .uri()
            .path()
            .strip_prefix("/proxy")
            .unwrap_or("")
            .to_owned(),
        _ => "/backend".to_owned(),
    };
    let backend = Backend {
        host: backend.ip().to_string(),
        port: backend.port(),
        tls: None,
    };
    let target = Target {
        backend,
        path_and_query,
    };
    match call {
        Call::Exec => {
            let streams = Streams {
                stdin: true,
                stdout: true,
                stderr: true,
                tty: false,
            };
            exec(request, target, streams).await
        }
        Call::PortForward => port_forward(request, target).await,
        Call::Proxy => proxy(request, target, "/proxy").await,
        Call::Log => log(target).await,
    }
}

/// A backend that takes one connection and gives it to `script` after the request's head, which it returns.
async fn backend<F, R, O>(script: F) -> (SocketAddr, tokio::task::JoinHandle<O>)
where
    F: FnOnce(String, TcpStream) -> R + Send + 'static,
    R: Future<Output = O> + Send,
    O: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        script(String::from_utf8(head).unwrap(), stream).await
    });
    (address, task)
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                         X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";

fn data(stream: u8, fin: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, stream, fin, 0, 0, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame
}

/// Reads one frame: its first four bytes, flags and payload.
async fn frame(stream: &mut TcpStream) -> ([u8; 4], u8, Vec<u8>) {
    let mut head = [0; 8];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    (*head.first_chunk().unwrap(), head[4], payload)
}

async fn websocket(address: SocketAddr, protocol: &str) -> tokio_tungstenite::WebSocketStream<TcpStream> {
    let mut request = format!("ws://{address}/x").into_client_request().unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol.parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    client
}

#[tokio::test]
async fn websocket_exec_becomes_spdy() {
    let (kubelet, script) = backend(|head: String, mut stream: TcpStream| async move {
        stream.write_all(SWITCHING.as_bytes()).await.unwrap();
        for expected in [1u8, 3, 5, 7] {
            let (kind, _, payload) = frame(&mut stream).await;
            assert_eq!(kind, [0x80, 3, 0, 1]);
            assert_eq!(payload[3], expected);
        }
        let (stdin, _, input) = frame(&mut stream).await;
        assert_eq!((stdin[3], input.as_slice()), (3, b"hello".as_slice()));
        let (stdin, fin, _) = frame(&mut stream).await;
        assert_eq!((stdin[3], fin), (3, 1));
        stream
            .write_all(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9])
            .await
            .unwrap();
        let (ping, _, _) = frame(&mut stream).await;
        assert_eq!(ping, [0x80, 3, 0, 6]);
        for out in [
            data(5, 0, b"out"),
            data(7, 1, b"err"),
            data(5, 1, b""),
            data(1, 1, b"{\"status\":\"Success\"}"),
        ] {
            stream.write_all(&out).await.unwrap();
        }
        head
    })
    .await;
    let mut client = websocket(front(Call::Exec, kubelet).await, "v5.channel.k8s.io").await;
    client
        .send(Message::Binary(b"\0hello".to_vec().into()))
        .await
        .unwrap();
    client.send(Message::Binary(vec![255, 0].into())).await.unwrap();
    let mut received = Vec::new();
    while let Some(Ok(message)) = client.next().await {
        match message {
            Message::Binary(bytes) => received.push(bytes.to_vec()),
            Message::Close(_) => break,
            _ => {}
        }
    }
    assert_eq!(
        received,
        [
            b"\x01out".to_vec(),
            b"\x02err".to_vec(),
            b"\x03{\"status\":\"Success\"}".to_vec()
        ]
    );
    let head = script.await.unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("post /backend http/1.1") && head.contains("upgrade: spdy/3.1"),
        "{head}"
    );
}

#[tokio::test]
async fn spdy_is_piped_untouched() {
    let (kubelet, script) = backend(|head: String, mut stream: TcpStream| async move {
        stream.write_all(SWITCHING.as_bytes()).await.unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        head
    })
    .await;
    let mut client = TcpStream::connect(front(Call::Exec, kubelet).await)
        .await
        .unwrap();
    let request = "POST /x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nConnection: Upgrade\r\n\
                   Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && head.contains("x-stream-protocol-version: v4"),
        "{head}"
    );
    client.write_all(b"\x80\0\xff\n").await.unwrap();
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"\x80\0\xff\n");
    let head = script.await.unwrap().to_ascii_lowercase();
    assert!(
        head.contains("x-stream-protocol-version: v4") && !head.contains("secret"),
        "{head}"
    );
}

#[tokio::test]
async fn port_forward_is_unwrapped() {
    let (kubelet, script) = backend(|head: String, mut stream: TcpStream| async move {
        stream.write_all(SWITCHING.as_bytes()).await.unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        (head, bytes)
    })
    .await;
    let mut client = websocket(
        front(Call::PortForward, kubelet).await,
        "SPDY/3.1+portforward.k8s.io",
    )
    .await;
    client
        .send(Message::Binary(b"ping".to_vec().into()))
        .await
        .unwrap();
    assert_eq!(
        client.next().await.unwrap().unwrap(),
        Message::Binary(b"pong".to_vec().into())
    );
    let (head, bytes) = script.await.unwrap();
    assert_eq!(&bytes, b"ping");
    assert!(
        head.to_ascii_lowercase()
            .contains("x-stream-protocol-version: portforward.k8s.io"),
        "{head}"
    );
}

async fn fetch(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (
        head[9..12].parse().unwrap(),
        head.to_ascii_lowercase(),
        body.to_owned(),
    )
}

#[tokio::test]
async fn pages_are_proxied_with_their_links() {
    let (pod, script) = backend(|head: String, mut stream: TcpStream| async move {
        let page = "<a href=\"/rewriteme\">test</a>";
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        head
    })
    .await;
    let address = front(Call::Proxy, pod).await;
    let (code, head, _) = fetch(address, "/proxy").await;
    assert!(code == 301 && head.contains("location: /proxy/"), "{head}");
    let (code, _, body) = fetch(address, "/proxy/page").await;
    assert_eq!(
        (code, body.as_str()),
        (200, "<a href=\"/proxy/rewriteme\">test</a>")
    );
    let head = script.await.unwrap();
    assert!(head.starts_with("GET /page HTTP/1.1"), "{head}");
    let (code, _, body) = fetch(address, "/proxy/again").await;
    assert!(
        code == 503 && body.starts_with("error trying to reach service: dial tcp 127.0.0.1"),
        "{body}"
    );
}

#[tokio::test]
async fn logs_stream_and_refusals_are_told() {
    let (kubelet, _script) = backend(|_: String, mut stream: TcpStream| async move {
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let (code, _, body) = fetch(front(Call::Log, kubelet).await, "/x").await;
    assert!(
        code == 200 && body.contains("one\n") && body.contains("two\n"),
        "{body}"
    );
    let (kubelet, _script) = backend(|_: String, mut stream: TcpStream| async move {
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 7\r\n\r\nwaiting")
            .await
            .unwrap();
    })
    .await;
    let (code, _, body) = fetch(front(Call::Log, kubelet).await, "/x").await;
    assert_eq!((code, body.as_str()), (400, "waiting"));
}
