//! Watches over one connection, read with as little work as HTTP/2 and gRPC allow: a general client would spend more on
//! an event than the servers do, and be what is measured. Windows are opened wide once; headers are not looked at.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::watch_request::RequestUnion;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
/// gRPC's prefix: not compressed, and four bytes of length.
const PREFIX_BYTES: usize = 5;
/// The widest window, and what a connection has from the start.
const WINDOW_BYTES: u32 = (1 << 31) - 1;
const WINDOW_BYTES_FIRST: u32 = 65_535;
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Flags: of SETTINGS and PING, of DATA and HEADERS, of HEADERS, of DATA.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Identifier of the setting for a stream's first window.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A connection with open watches.
pub struct Watches {
    stream: TcpStream,
    received: BytesMut,
    /// Parts of messages that came in several frames, by stream.
    parts: BTreeMap<u32, BytesMut>,
}

impl Watches {
    /// Connects to `authority` and asks for `count` watches, each on a stream of its own.
    pub async fn open(authority: &str, count: u32, create: pb::WatchCreateRequest) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(authority).await.context("connect")?;
        stream.set_nodelay(true).context("connect")?;
        let mut out = BytesMut::from(PREFACE);
        frame(&mut out, SETTINGS, 0, 0, &{
            let mut settings = Vec::new();
            settings.put_u16(INITIAL_WINDOW_SIZE);
            settings.put_u32(WINDOW_BYTES);
            settings
        });
        let wider = WINDOW_BYTES - WINDOW_BYTES_FIRST;
        frame(&mut out, WINDOW_UPDATE, 0, 0, &wider.to_be_bytes());
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let mut message = vec![0];
        message.put_u32(u32::try_from(request.encoded_len()).context("a short request")?);
        message.extend(request.encode_to_vec());
        for number in 0..count {
            let id = 2 * number + 1;
            frame(&mut out, HEADERS, END_HEADERS, id, &request_headers(authority));
            frame(&mut out, DATA, 0, id, &message);
        }
        stream.write_all(&out).await.context("ask for watches")?;
        Ok(Self {
            stream,
            received: BytesMut::with_capacity(READ_BYTES),
            parts: BTreeMap::new(),
        })
    }

    /// Waits for more, and gives each response with the number of its watch to `visit`.
    pub async fn read(&mut self, visit: &mut impl FnMut(usize, pb::WatchResponse)) -> anyhow::Result<()> {
        self.received.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.received).await.context("read")?;
        ensure!(read > 0, "the server closed the connection");
        let mut out = BytesMut::new();
        while let Some((kind, flags, id, payload)) = self.next_frame() {
            match kind {
                DATA => self.data(flags, id, payload, visit)?,
                HEADERS if flags & END_STREAM != 0 => bail!("a watch ended"),
                SETTINGS if flags & ACK == 0 => frame(&mut out, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(&mut out, PING, ACK, 0, &payload),
                RST_STREAM | GOAWAY => bail!("the server gave up"),
                _ => {}
            }
        }
        if !out.is_empty() {
            self.stream.write_all(&out).await.context("answer the server")?;
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Option<(u8, u8, u32, Bytes)> {
        let header = self.received.get(..FRAME_HEADER_BYTES)?;
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let (kind, flags) = (header[3], header[4]);
        let id = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & WINDOW_BYTES;
        if self.received.len() < FRAME_HEADER_BYTES + length {
            return None;
        }
        self.received.advance(FRAME_HEADER_BYTES);
        Some((kind, flags, id, self.received.split_to(length).freeze()))
    }

    fn data(
        &mut self,
        flags: u8,
        id: u32,
        payload: Bytes,
        visit: &mut impl FnMut(usize, pb::WatchResponse),
    ) -> anyhow::Result<()> {
        ensure!(flags & PADDED == 0, "padded frames are not expected");
        let mut payload = match self.parts.remove(&id) {
            None => payload,
            Some(mut parts) => {
                parts.extend_from_slice(&payload);
                parts.freeze()
            }
        };
        while payload.len() >= PREFIX_BYTES {
            let length = u32::from_be_bytes([payload[1], payload[2], payload[3], payload[4]]);
            let end = PREFIX_BYTES + usize::try_from(length).context("a message's length")?;
            if payload.len() < end {
                break;
            }
            let message = payload.split_to(end).slice(PREFIX_BYTES..);
            let response = pb::WatchResponse::decode(message).context("decode a response")?;
            visit(usize::try_from(id / 2).context("a stream's number")?, response);
        }
        if !payload.is_empty() {
            self.parts.insert(id, BytesMut::from(&payload[..]));
        }
        Ok(())
    }
}

fn frame(out: &mut BytesMut, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(id);
    out.put_slice(payload);
}

/// HPACK by the static table and literals that nobody has to remember.
fn request_headers(authority: &str) -> Vec<u8> {
    // :method POST, :scheme http
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        block.extend_from_slice(value.as_bytes());
    };
    // Names by their static index: 4 :path, 1 :authority, 31 content-type; `te` by itself.
    literal(&[0x04], "/etcdserverpb.Watch/Watch");
    literal(&[0x01], authority);
    literal(&[0x0f, 0x10], "application/grpc");
    literal(b"\x00\x02te", "trailers");
    block
}
