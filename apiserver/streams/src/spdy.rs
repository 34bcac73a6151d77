//! SPDY/3.1 as a kubelet speaks it: the frames of a client that opens streams and is never asked to.
//!
//! Pure: bytes to frames and frames to bytes. Header blocks are written as stored (uncompressed) zlib blocks without preset
//! dictionary, which every inflater reads; those of the kubelet are not read, since its replies carry nothing but
//! the stream they answer. Flow control is not spoken, as in upstream's spdystream.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits::SPDY_FRAME_BYTES_MAX;

/// Protocol named in `Upgrade`.
pub(crate) const PROTOCOL: &str = "SPDY/3.1";

/// Length of every frame's head.
pub(crate) const HEAD_BYTES: usize = 8;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

const FLAG_FIN: u8 = 1;

/// Nothing more is sent on the stream.
pub(crate) type Fin = bool;

/// What a kubelet sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Data {
        stream: u32,
        fin: Fin,
        payload: Vec<u8>,
    },
    /// The stream was opened as asked.
    Reply {
        stream: u32,
    },
    /// The stream ended before its time.
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// The other side opens a stream, which no exec does.
    Opened {
        stream: u32,
    },
    /// Settings, headers, window updates: nothing to do.
    Other,
}

/// The first eight bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    first: u32,
    flags: u8,
    pub(crate) length: usize,
}

/// Reads the head of a frame.
///
/// # Errors
/// A frame larger than is taken, or of another version.
pub(crate) fn head(bytes: [u8; HEAD_BYTES]) -> Result<Head, String> {
    let first = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let length = u32::from_be_bytes([0, bytes[5], bytes[6], bytes[7]]) as usize;
    if length > SPDY_FRAME_BYTES_MAX {
        return Err(format!(
            "SPDY frame of {length} bytes, more than {SPDY_FRAME_BYTES_MAX}"
        ));
    }
    let control = first >> 31 == 1;
    if control && (first >> 16 & 0x7fff) as u16 != VERSION {
        return Err(format!("SPDY frame of version {}", first >> 16 & 0x7fff));
    }
    Ok(Head {
        first,
        flags: bytes[4],
        length,
    })
}

/// Reads the rest of a frame.
///
/// # Errors
/// A payload too short for its type, or an unknown type.
pub(crate) fn frame(head: Head, payload: Vec<u8>) -> Result<Frame, String> {
    if head.first >> 31 == 0 {
        return Ok(Frame::Data {
            stream: head.first,
            fin: head.flags & FLAG_FIN != 0,
            payload,
        });
    }
    let kind = (head.first & 0xffff) as u16;
    let number = || match payload.first_chunk::<4>() {
        Some(bytes) => Ok(u32::from_be_bytes(*bytes) & 0x7fff_ffff),
        None => Err(format!("SPDY frame of type {kind} is {} bytes", payload.len())),
    };
    Ok(match kind {
        SYN_STREAM => Frame::Opened { stream: number()? },
        SYN_REPLY => Frame::Reply { stream: number()? },
        RST_STREAM => Frame::Reset { stream: number()? },
        PING => Frame::Ping {
            id: payload
                .first_chunk()
                .map_or(0, |bytes| u32::from_be_bytes(*bytes)),
        },
        GOAWAY => Frame::GoAway,
        SETTINGS | HEADERS | WINDOW_UPDATE => Frame::Other,
        other => return Err(format!("SPDY frame of unknown type {other}")),
    })
}

/// Writes frames; keeps what the header compression of a connection must keep.
#[derive(Default)]
pub(crate) struct Writer {
    /// The zlib head was written.
    begun: AtomicBool,
}

impl Writer {
    /// Opens a stream with headers.
    pub(crate) fn open(&self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        put_u32(&mut block, headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                put_u32(&mut block, text.len() as u32);
                block.extend_from_slice(text.as_bytes());
            }
        }
        let mut payload = Vec::new();
        put_u32(&mut payload, stream);
        put_u32(&mut payload, 0);
        payload.extend_from_slice(&[0, 0]);
        if !self.begun.swap(true, Ordering::Relaxed) {
            payload.extend_from_slice(&[0x78, 0x01]);
        }
        let length = block.len() as u16;
        payload.push(0);
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&(!length).to_le_bytes());
        payload.extend_from_slice(&block);
        // An empty block makes the reader hand out what it has.
        payload.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        control(SYN_STREAM, 0, &payload)
    }
}

/// Bytes of a stream.
pub(crate) fn data(stream: u32, fin: Fin, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + payload.len());
    put_u32(&mut out, stream & 0x7fff_ffff);
    put_u32(
        &mut out,
        u32::from(if fin { FLAG_FIN } else { 0 }) << 24 | payload.len() as u32,
    );
    out.extend_from_slice(payload);
    out
}

/// The answer to a ping.
pub(crate) fn pong(id: u32) -> Vec<u8> {
    control(PING, 0, &id.to_be_bytes())
}

/// Refuses a stream (status 3).
pub(crate) fn refuse(stream: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    put_u32(&mut payload, stream);
    put_u32(&mut payload, 3);
    control(RST_STREAM, 0, &payload)
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + payload.len());
    out.extend_from_slice(&(VERSION | 0x8000).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    put_u32(&mut out, u32::from(flags) << 24 | payload.len() as u32);
    out.extend_from_slice(payload);
    out
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Frame, String> {
        let head = head(*bytes.first_chunk().unwrap())?;
        assert_eq!(head.length, bytes.len() - HEAD_BYTES);
        frame(head, bytes[HEAD_BYTES..].to_vec())
    }

    #[test]
    fn frames_read_what_is_written() {
        assert_eq!(
            read(&data(3, true, b"abc")),
            Ok(Frame::Data {
                stream: 3,
                fin: true,
                payload: b"abc".to_vec()
            })
        );
        assert_eq!(read(&pong(7)), Ok(Frame::Ping { id: 7 }));
        assert_eq!(read(&refuse(2)), Ok(Frame::Reset { stream: 2 }));
        let writer = Writer::default();
        assert_eq!(
            read(&writer.open(1, &[("streamtype", "error")])),
            Ok(Frame::Opened { stream: 1 })
        );
    }

    #[test]
    fn header_blocks_are_zlib() {
        use std::io::Read as _;
        let writer = Writer::default();
        let (first, second) = (
            writer.open(1, &[("streamtype", "error")]),
            writer.open(3, &[("streamtype", "stdin")]),
        );
        let mut stream = first[18..].to_vec();
        stream.extend_from_slice(&second[18..]);
        let mut plain = vec![0; 2 * (4 + 4 + 10 + 4 + 5)];
        flate2::read::ZlibDecoder::new(stream.as_slice())
            .read_exact(&mut plain)
            .unwrap();
        assert!(plain.ends_with(b"stdin"));
        assert_eq!(&plain[..8], &[0, 0, 0, 1, 0, 0, 0, 10]);
    }

    #[test]
    fn hostile_frames_are_refused() {
        assert!(head([0, 0, 0, 1, 0, 0xff, 0xff, 0xff]).is_err());
        assert!(head([0x80, 2, 0, 1, 0, 0, 0, 0]).is_err());
        assert!(read(&control(SYN_REPLY, 0, &[0])).is_err());
        assert!(read(&control(99, 0, &[])).is_err());
    }
}
