//! How a watch stream's messages are encoded: events are copied from bytes all watchers of a range share.

use std::sync::Arc;

use bytes::BufMut;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::watch::Events;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// A message on its way to the client.
#[derive(Debug)]
pub enum Outgoing {
    Response(pb::WatchResponse),
    /// A response with all of these events, which are encoded once for everybody.
    Events {
        /// Everything of the response but the events.
        head: pb::WatchResponse,
        events: Arc<Events>,
    },
}

/// The codec of `Watch.Watch`.
#[derive(Debug, Clone, Copy, Default)]
pub struct WatchCodec;

impl Codec for WatchCodec {
    type Encode = Outgoing;
    type Decode = pb::WatchRequest;
    type Encoder = Self;
    type Decoder = ProstDecoder<pb::WatchRequest>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl Encoder for WatchCodec {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match item {
            Outgoing::Response(response) => response.encode_raw(buffer),
            // Fields may come in any order, and a message is the concatenation of its fields.
            Outgoing::Events { head, events } => {
                let events = events.encoded();
                buffer.reserve(events.len() + head.encoded_len());
                head.encode_raw(buffer);
                buffer.put_slice(events);
            }
        }
        Ok(())
    }
}
