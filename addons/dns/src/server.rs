//! UDP and TCP: questions in, answers out.

use std::io::Result;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use ipnet::IpNet;
use keelson_base::Shutdown;
use keelson_base::metrics::Registry;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::answer::{Answer, Resolver};
use crate::forward::Forwarder;
use crate::limits::{CONNECTIONS_MAX, IDLE, UDP_MAX};
use crate::zone::Zone;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    proto: &'static str,
    rcode: String,
}

/// What all questions share.
pub struct Server {
    /// Guards the zone; held for one answer or one change.
    pub zone: Arc<RwLock<Zone>>,
    pub domain: Name,
    pub forwarder: Forwarder,
    /// Clients that are answered; others are refused, so that nobody outside uses us against a third party.
    pub clients: Vec<IpNet>,
    pub serial: AtomicU32,
    outcomes: Family<Outcome, Counter>,
}

impl Server {
    /// A server of a zone.
    pub fn new(
        zone: Arc<RwLock<Zone>>,
        domain: Name,
        forwarder: Forwarder,
        clients: Vec<IpNet>,
        registry: &Registry,
    ) -> Self {
        let outcomes = Family::default();
        let help = "Counter of response status codes";
        registry.register("coredns_dns_responses", help, Family::clone(&outcomes));
        Self {
            zone,
            domain,
            forwarder,
            clients,
            serial: AtomicU32::new(1),
            outcomes,
        }
    }

    /// The answer to a packet; `None` for what is no question at all.
    pub async fn respond(&self, packet: &[u8], client: IpAddr, by_tcp: bool) -> Option<Vec<u8>> {
        let id = u16::from_be_bytes([*packet.first()?, *packet.get(1)?]);
        let Ok(request) = Message::from_vec(packet) else {
            let error = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            return self.encode(error, UDP_MAX.into(), by_tcp);
        };
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let limit = if by_tcp {
            usize::from(u16::MAX)
        } else {
            request.max_payload().min(UDP_MAX).into()
        };
        let response = match self.question(&request, client) {
            Err(code) => self.reply(&request, code),
            Ok(question) => match self.answer(question) {
                Answer::Records {
                    code,
                    answers,
                    authorities,
                    additionals,
                } => {
                    let mut response = self.reply(&request, code);
                    response.metadata.authoritative = true;
                    response.insert_answers(rotated(answers, id));
                    response.insert_authorities(authorities);
                    response.insert_additionals(additionals);
                    response
                }
                Answer::Forward => match self.forwarder.ask(packet, by_tcp).await {
                    Ok(answer) if answer.len() <= limit => {
                        self.count(by_tcp, ResponseCode::from_low(answer[3] & 0x0f));
                        return Some(answer);
                    }
                    Ok(answer) => Message::from_vec(&answer).ok()?.truncate(),
                    Err(error) => self.failed(&request, &error),
                },
                Answer::ForwardAlias { answers, target } => {
                    match self.follow(answers, target, question.query_type(), by_tcp).await {
                        Ok(answers) => {
                            let mut response = self.reply(&request, ResponseCode::NoError);
                            response.insert_answers(answers);
                            response
                        }
                        Err(error) => self.failed(&request, &error),
                    }
                }
            },
        };
        self.encode(response, limit, by_tcp)
    }

    fn question<'a>(
        &self,
        request: &'a Message,
        client: IpAddr,
    ) -> std::result::Result<&'a Query, ResponseCode> {
        if !self
            .clients
            .iter()
            .any(|net| net.contains(&client.to_canonical()))
        {
            return Err(ResponseCode::Refused);
        }
        if request.metadata.op_code != OpCode::Query {
            return Err(ResponseCode::NotImp);
        }
        match request.queries.as_slice() {
            [question] if question.query_class() == DNSClass::IN => Ok(question),
            [_] => Err(ResponseCode::Refused),
            _ => Err(ResponseCode::FormErr),
        }
    }

    fn answer(&self, question: &Query) -> Answer {
        let zone = self.zone.read();
        let serial = self.serial.load(Ordering::Relaxed);
        Resolver {
            zone: &zone,
            domain: &self.domain,
            serial,
        }
        .answer(question.name(), question.query_type())
    }

    /// What a name outside the cluster has, behind the aliases that led there.
    async fn follow(
        &self,
        mut answers: Vec<Record>,
        target: Name,
        kind: RecordType,
        by_tcp: bool,
    ) -> Result<Vec<Record>> {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(target, kind));
        let query = query.to_vec().map_err(std::io::Error::other)?;
        let answer = self.forwarder.ask(&query, by_tcp).await?;
        let answer = Message::from_vec(&answer).map_err(std::io::Error::other)?;
        answers.extend(answer.answers);
        Ok(answers)
    }

    fn failed(&self, request: &Message, error: &std::io::Error) -> Message {
        tracing::debug!(%error, "cannot forward a query");
        self.reply(request, ResponseCode::ServFail)
    }

    fn reply(&self, request: &Message, code: ResponseCode) -> Message {
        let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
        reply.metadata.response_code = code;
        reply.metadata.recursion_desired = request.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_queries(request.queries.iter().cloned());
        if request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX);
            reply.set_edns(edns);
        }
        reply
    }

    fn encode(&self, message: Message, limit: usize, by_tcp: bool) -> Option<Vec<u8>> {
        self.count(by_tcp, message.metadata.response_code);
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= limit {
            Some(bytes)
        } else {
            message.truncate().to_vec().ok()
        }
    }

    fn count(&self, by_tcp: bool, code: ResponseCode) {
        let proto = if by_tcp { "tcp" } else { "udp" };
        self.outcomes
            .get_or_create(&Outcome {
                proto,
                rcode: format!("{code:?}").to_uppercase(),
            })
            .inc();
    }
}

/// Clients that take the first address are spread over all of them.
fn rotated(mut answers: Vec<Record>, id: u16) -> Vec<Record> {
    let address = |r: &Record| matches!(r.record_type(), RecordType::A | RecordType::AAAA);
    if answers.len() > 1 && answers.iter().all(address) {
        let by = usize::from(id) % answers.len();
        answers.rotate_left(by);
    }
    answers
}

/// Serves UDP until shutdown.
pub async fn udp(server: Arc<Server>, socket: UdpSocket, shutdown: Shutdown) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 4096];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = shutdown.wait() => return,
        };
        // An error here is an earlier answer's that could not be delivered.
        let Ok((length, client)) = received else { continue };
        let (server, socket, packet) = (server.clone(), socket.clone(), buffer[..length].to_vec());
        // Answers of our own are ready at once; what is forwarded is bounded by the forwarder.
        tokio::spawn(async move {
            if let Some(answer) = server.respond(&packet, client.ip(), false).await {
                _ = socket.send_to(&answer, client).await;
            }
        });
    }
}

/// Serves TCP until shutdown.
pub async fn tcp(server: Arc<Server>, listener: TcpListener, shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return,
        };
        let Ok((stream, client)) = accepted else { continue };
        let server = server.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection(&server, stream, client.ip()).await {
                tracing::trace!(%error, "a TCP client left");
            }
        });
    }
}

async fn connection(server: &Server, mut stream: TcpStream, client: IpAddr) -> Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut packet = vec![0; length.into()];
        timeout(IDLE, stream.read_exact(&mut packet)).await??;
        let Some(answer) = server.respond(&packet, client, true).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream
            .write_all(&[&length.to_be_bytes()[..], &answer].concat())
            .await?;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::zone::SliceFacts;

    fn server(endpoints: usize) -> Server {
        let mut zone = Zone::default();
        zone.set_namespace("ns", true);
        let service = serde_json::from_value(json!({"spec": {"clusterIP": "None"}})).unwrap();
        zone.set_service(
            ("ns".into(), "db".into()),
            crate::zone::ServiceFacts::new(&service),
        );
        let endpoints: Vec<_> = (0..endpoints)
            .map(|n| json!({"addresses": [format!("10.0.{}.{}", n / 250, n % 250)]}))
            .collect();
        let slice = json!({"addressType": "IPv4", "metadata": {}, "endpoints": endpoints});
        let slice = SliceFacts::new(&serde_json::from_value(slice).unwrap());
        zone.set_slice(("ns".into(), "db".into()), "s", Some(slice));
        let forwarder = Forwarder::new("/nonexistent/resolv.conf".into(), Default::default());
        let domain = Name::from_ascii("cluster.local.").unwrap();
        let clients = vec!["10.0.0.0/8".parse().unwrap()];
        Server::new(
            Arc::new(RwLock::new(zone)),
            domain,
            forwarder,
            clients,
            &Registry::default(),
        )
    }

    fn query(name: &str, payload: Option<u16>) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    async fn ask(server: &Server, packet: &[u8], client: &str, by_tcp: bool) -> Message {
        let answer = server
            .respond(packet, client.parse().unwrap(), by_tcp)
            .await
            .unwrap();
        assert_eq!(answer[..2], packet[..2]);
        Message::from_vec(&answer).unwrap()
    }

    const DB: &str = "db.ns.svc.cluster.local.";

    #[tokio::test]
    async fn large_answers_are_cut_by_udp_and_whole_by_tcp() {
        let server = server(60);
        for (payload, by_tcp, expected) in [(None, false, 0), (Some(4096), false, 60), (None, true, 60)] {
            let answer = ask(&server, &query(DB, payload), "10.1.1.1", by_tcp).await;
            assert_eq!(
                (answer.answers.len(), answer.metadata.truncation),
                (expected, expected == 0)
            );
            assert_eq!(answer.edns.is_some(), payload.is_some());
        }
        let server = super::tests::server(200);
        let answer = ask(&server, &query(DB, Some(4096)), "10.1.1.1", false).await;
        assert!(answer.metadata.truncation, "more than fits a packet");
    }

    #[tokio::test]
    async fn strangers_and_nonsense_are_refused() {
        let server = server(1);
        let code = |answer: Message| answer.metadata.response_code;
        assert_eq!(
            code(ask(&server, &query(DB, None), "8.8.8.8", false).await),
            ResponseCode::Refused
        );
        assert_eq!(
            code(ask(&server, &[1, 2, 3], "10.1.1.1", false).await),
            ResponseCode::FormErr
        );
        let nowhere = ask(&server, &query("example.com.", None), "10.1.1.1", false).await;
        assert_eq!(code(nowhere), ResponseCode::ServFail);
        assert_eq!(server.respond(&[1], [10, 1, 1, 1].into(), false).await, None);
        let mut response = query(DB, None);
        response[2] |= 0x80;
        assert_eq!(
            server.respond(&response, [10, 1, 1, 1].into(), false).await,
            None,
            "no question"
        );
    }
}
