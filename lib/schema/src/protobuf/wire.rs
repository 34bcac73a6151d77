//! Tags, varints and lengths.

use super::Error;

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// The payload of one field.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Payload<'a> {
    fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => VARINT,
            Self::Fixed64(_) => FIXED64,
            Self::Bytes(_) => BYTES,
            Self::Fixed32 => FIXED32,
        }
    }

    pub(super) fn wrong(self, field: &str) -> Error {
        Error::WrongWireType {
            wire_type: self.wire_type(),
            field: field.to_owned(),
        }
    }

    pub(super) fn bytes(self, field: &str) -> Result<&'a [u8], Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.wrong(field)),
        }
    }

    pub(super) fn str(self, field: &str) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| Error::Utf8)
    }

    pub(super) fn varint(self, field: &str) -> Result<u64, Error> {
        match self {
            Self::Varint(value) => Ok(value),
            other => Err(other.wrong(field)),
        }
    }
}

/// Calls `each` for every field of a message, in the order they stand.
pub(super) fn each_field<'a>(
    mut message: &'a [u8],
    mut each: impl FnMut(u32, Payload<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        let number = u32::try_from(tag >> 3).map_err(|_| Error::Overflow)?;
        let wire_type = (tag & 7) as u8;
        let payload = match wire_type {
            VARINT => Payload::Varint(take_varint(&mut message)?),
            FIXED64 => {
                let bytes = take(&mut message, 8)?.try_into().expect("eight bytes were taken");
                Payload::Fixed64(u64::from_le_bytes(bytes))
            }
            BYTES => {
                let length = take_varint(&mut message)?;
                let length = usize::try_from(length).map_err(|_| Error::Overflow)?;
                Payload::Bytes(take(&mut message, length)?)
            }
            FIXED32 => {
                take(&mut message, 4)?;
                Payload::Fixed32
            }
            other => return Err(Error::WireType(other)),
        };
        if number == 0 {
            return Err(Error::WireType(wire_type));
        }
        each(number, payload)?;
    }
    Ok(())
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Result<&'a [u8], Error> {
    let (taken, rest) = message.split_at_checked(length).ok_or(Error::Truncated)?;
    *message = rest;
    Ok(taken)
}

pub(super) fn take_varint(message: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0u64;
    for (index, &byte) in message.iter().enumerate() {
        if index == 10 {
            return Err(Error::Overflow);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *message = &message[index + 1..];
            return Ok(value);
        }
    }
    Err(Error::Truncated)
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

pub(super) fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_tag(out, number, VARINT);
    put_varint(out, value as u64);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a nested message in place: what `write` appends gets its length put before it.
pub(super) fn put_message<E>(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(out, number, BYTES);
    let start = out.len();
    write(out)?;
    let length = out.len() - start;
    let mut prefix = [0u8; 10];
    let mut size = 0;
    let mut rest = length as u64;
    loop {
        prefix[size] = (rest & 0x7f) as u8 | if rest >= 0x80 { 0x80 } else { 0 };
        size += 1;
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&prefix[..size]);
    out[start..].rotate_right(size);
    Ok(())
}
