//! Asks the node's own resolvers about names outside the cluster. Queries go on as they came, under a fresh id.

use std::collections::HashSet;
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::limits::{FORWARDED_MAX, RESOLVER_TIMEOUT, RESOLVERS_MAX};

/// The node's resolvers, read anew when their file changes.
pub struct Forwarder {
    path: PathBuf,
    /// Our own addresses, which would ask themselves.
    own: HashSet<IpAddr>,
    /// Guards what was read; held for a look at the file's age or a read of it.
    read: Mutex<(Option<SystemTime>, Vec<SocketAddr>)>,
    places: Semaphore,
}

impl Forwarder {
    /// Reads `path` (a resolv.conf) when first asked.
    pub fn new(path: PathBuf, own: HashSet<IpAddr>) -> Self {
        Self {
            path,
            own,
            read: Mutex::default(),
            places: Semaphore::new(FORWARDED_MAX),
        }
    }

    fn resolvers(&self) -> Vec<SocketAddr> {
        let modified = std::fs::metadata(&self.path).and_then(|m| m.modified()).ok();
        let mut read = self.read.lock();
        if read.0 != modified || modified.is_none() {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            *read = (modified, nameservers(&text, &self.own));
        }
        read.1.clone()
    }

    /// The answer of the first resolver that gives one. `query` is a whole message; so is the answer, with its id.
    pub async fn ask(&self, query: &[u8], by_tcp: bool) -> Result<Vec<u8>> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Error::new(
                ErrorKind::QuotaExceeded,
                "too many queries are being forwarded",
            ));
        };
        let mut last = Error::new(ErrorKind::NotFound, "the node has no resolvers");
        for resolver in self.resolvers() {
            let asked = async {
                if by_tcp {
                    ask_tcp(resolver, query).await
                } else {
                    ask_udp(resolver, query).await
                }
            };
            match timeout(RESOLVER_TIMEOUT, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = Error::new(ErrorKind::TimedOut, format!("{resolver} did not answer")),
            }
        }
        Err(last)
    }
}

/// The `nameserver` lines of a resolv.conf, without ourselves.
fn nameservers(text: &str, own: &HashSet<IpAddr>) -> Vec<SocketAddr> {
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    let ips = lines.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    ips.filter(|ip| !own.contains(ip))
        .map(|ip| SocketAddr::new(ip, 53))
        .take(RESOLVERS_MAX)
        .collect()
}

async fn ask_udp(resolver: SocketAddr, query: &[u8]) -> Result<Vec<u8>> {
    let any: IpAddr = if resolver.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // A port of its own per query, beside the random id, is what makes forged answers hard.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    let id = fresh_id();
    socket.send(&with_id(query, id)).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if length >= 12 && buffer[..2] == id {
            return Ok(with_id(&buffer[..length], [query[0], query[1]]));
        }
    }
}

async fn ask_tcp(resolver: SocketAddr, query: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(query.len()).map_err(|_| ErrorKind::InvalidInput)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], query].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if answer.len() < 12 || answer[..2] != query[..2] {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "the answer is to another query",
        ));
    }
    Ok(answer)
}

fn with_id(message: &[u8], id: [u8; 2]) -> Vec<u8> {
    let mut copy = message.to_vec();
    copy[..2].copy_from_slice(&id);
    copy
}

fn fresh_id() -> [u8; 2] {
    hickory_proto::op::Message::query().metadata.id.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_without_ourselves() {
        let own = [IpAddr::from([10, 96, 0, 10])].into();
        let text = "# nameserver 9.9.9.9\nnameserver 10.96.0.10\nnameserver 1.1.1.1 \nsearch x\nnameserver fd00::1\n";
        let read: Vec<String> = nameservers(text, &own).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["1.1.1.1:53", "[fd00::1]:53"]);
    }
}
