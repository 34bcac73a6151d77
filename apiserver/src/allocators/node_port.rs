//! Node ports: a bitmap over the range, in one key that upstream's servers use too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use keelson_machinery::{Status, Value};
use keelson_schema::protobuf;
use rand::Rng;
use serde_json::json;

use super::{Held, needs_health_check};
use crate::server::Server;
use crate::storage::Written;

/// A refused port: which of `spec.ports`, the port, and why.
pub type Refused = (usize, u16, String);

/// Gives out node ports.
#[derive(Debug)]
pub struct NodePorts {
    low: u16,
    high: u16,
    key: String,
}

/// Which ports are taken; as upstream's `big.Int`: big-endian bytes, bit 0 is the range's first port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bitmap(Vec<u8>);

impl Bitmap {
    pub fn has(&self, bit: usize) -> bool {
        let byte = self
            .0
            .len()
            .checked_sub(1 + bit / 8)
            .and_then(|at| self.0.get(at));
        byte.is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }

    pub fn set(&mut self, bit: usize, on: bool) {
        let needed = bit / 8 + 1;
        if self.0.len() < needed {
            let grown = needed - self.0.len();
            self.0.splice(0..0, std::iter::repeat_n(0, grown));
        }
        let at = self.0.len() - needed;
        match on {
            true => self.0[at] |= 1 << (bit % 8),
            false => self.0[at] &= !(1 << (bit % 8)),
        }
    }

    /// Without leading zeros, as `big.Int.Bytes` writes it.
    fn bytes(&self) -> &[u8] {
        let zeros = self.0.iter().take_while(|byte| **byte == 0).count();
        &self.0[zeros..]
    }
}

impl NodePorts {
    pub fn new((low, high): (u16, u16), key: String) -> Self {
        Self { low, high, key }
    }

    /// `30000-32767`.
    fn range(&self) -> String {
        format!("{}-{}", self.low, self.high)
    }

    fn bit(&self, port: u16) -> Option<usize> {
        (self.low..=self.high)
            .contains(&port)
            .then(|| usize::from(port - self.low))
    }

    async fn read(&self, server: &Server) -> Result<(Bitmap, i64), Status> {
        let Some(kv) = server.store.get(&self.key).await? else {
            return Ok((Bitmap::default(), 0));
        };
        let value: Value = match protobuf::is_framed(&kv.value) {
            true => protobuf::decode(&kv.value).map_err(|error| Status::internal(error.to_string()))?,
            false => {
                serde_json::from_slice(&kv.value).map_err(|error| Status::internal(error.to_string()))?
            }
        };
        let same_range = value["range"] == self.range().as_str();
        let data = STANDARD
            .decode(value["data"].as_str().unwrap_or_default())
            .unwrap_or_default();
        // Another range starts anew; repair fills in what is in use.
        let bitmap = if same_range {
            Bitmap(data)
        } else {
            Bitmap::default()
        };
        Ok((bitmap, kv.mod_revision))
    }

    /// `false`: somebody else wrote it meanwhile.
    async fn write(&self, server: &Server, bitmap: &Bitmap, revision: i64) -> Result<bool, Status> {
        let value = json!({
            "kind": "RangeAllocation", "apiVersion": "v1", "metadata": {"creationTimestamp": null},
            "range": self.range(), "data": STANDARD.encode(bitmap.bytes()),
        });
        let written = server
            .store
            .put_if(&self.key, revision, Bytes::from(value.to_string()), 0)
            .await?;
        Ok(matches!(written, Written::Done(_)))
    }

    /// Changes the bitmap until nobody else was faster.
    pub async fn change<T>(
        &self,
        server: &Server,
        mut change: impl FnMut(&mut Bitmap) -> T,
    ) -> Result<T, Status> {
        loop {
            let (mut bitmap, revision) = self.read(server).await?;
            let before = bitmap.clone();
            let outcome = change(&mut bitmap);
            if bitmap == before || self.write(server, &bitmap, revision).await? {
                return Ok(outcome);
            }
        }
    }

    /// Fills in the node ports a Service needs; ports asked for are taken as they are.
    pub async fn give(
        &self,
        server: &Server,
        service: &mut Value,
        before: &Held,
        dry_run: bool,
        taken: &mut Held,
    ) -> Result<Result<(), Refused>, Status> {
        let mut planned = Ok((service.clone(), Vec::new()));
        if dry_run {
            let (mut bitmap, _) = self.read(server).await?;
            planned = self.plan(service, before, &mut bitmap);
        } else {
            self.change(server, |bitmap| {
                let untouched = bitmap.clone();
                planned = self.plan(service, before, bitmap);
                if planned.is_err() {
                    *bitmap = untouched;
                }
            })
            .await?;
        }
        Ok(planned.map(|(given, ports)| {
            *service = given;
            if !dry_run {
                taken.ports.extend(ports);
            }
        }))
    }

    /// The Service with its ports, and those that were taken for it.
    fn plan(
        &self,
        service: &Value,
        before: &Held,
        bitmap: &mut Bitmap,
    ) -> Result<(Value, Vec<u16>), Refused> {
        let mut service = service.clone();
        let spec = &mut service["spec"];
        let takes_ports = spec["type"] == "NodePort"
            || (spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false);
        let (mut own, mut taken) = (before.ports.clone(), Vec::new());
        let mut take = |bitmap: &mut Bitmap, wanted: u16, index: usize| -> Result<u16, Refused> {
            if wanted != 0 && own.contains(&wanted) {
                return Ok(wanted);
            }
            let port = match wanted {
                0 => self.free(bitmap).ok_or_else(|| {
                    (
                        index,
                        0,
                        "failed to allocate a nodePort: range is full".to_owned(),
                    )
                })?,
                port => match self.bit(port) {
                    None => {
                        return Err((
                            index,
                            port,
                            format!(
                                "provided port is not in the valid range. The range of valid ports is {}",
                                self.range()
                            ),
                        ));
                    }
                    Some(bit) if bitmap.has(bit) => {
                        return Err((index, port, "provided port is already allocated".to_owned()));
                    }
                    Some(_) => port,
                },
            };
            if let Some(bit) = self.bit(port) {
                bitmap.set(bit, true);
            }
            own.push(port);
            taken.push(port);
            Ok(port)
        };
        let none = Vec::new();
        let count = spec["ports"].as_array().unwrap_or(&none).len();
        // What was asked for goes first, so that no random choice is in its way.
        for asked in [true, false] {
            for index in (0..count).filter(|_| takes_ports) {
                let wanted = node_port(&spec["ports"][index]);
                if (wanted != 0) == asked {
                    spec["ports"][index]["nodePort"] = take(bitmap, wanted, index)?.into();
                }
            }
        }
        if needs_health_check(spec) {
            let wanted = u16::try_from(spec["healthCheckNodePort"].as_u64().unwrap_or(0)).unwrap_or(0);
            spec["healthCheckNodePort"] = take(bitmap, wanted, 0)?.into();
        }
        Ok((service, taken))
    }

    /// A free port at random, from the upper part of the range first (KEP-3668's bands).
    fn free(&self, bitmap: &Bitmap) -> Option<u16> {
        let size = usize::from(self.high - self.low) + 1;
        let band = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
        let span = size - band;
        let start = rand::rng().random_range(0..span);
        let upper = (0..span).map(|step| band + (start + step) % span);
        upper
            .chain((0..band).rev())
            .find(|bit| !bitmap.has(*bit))
            .and_then(|bit| self.low.checked_add(u16::try_from(bit).ok()?))
    }

    /// Gives ports back.
    pub async fn release(&self, server: &Server, ports: &[u16]) -> Result<(), Status> {
        self.change(server, |bitmap| {
            for bit in ports.iter().filter_map(|port| self.bit(*port)) {
                if bitmap.has(bit) {
                    bitmap.set(bit, false);
                }
            }
        })
        .await
    }

    /// Makes the bitmap what the Services say.
    pub async fn repair(&self, server: &Server, in_use: &[u16]) -> Result<(), Status> {
        self.change(server, |bitmap| {
            *bitmap = Bitmap::default();
            for bit in in_use.iter().filter_map(|port| self.bit(*port)) {
                bitmap.set(bit, true);
            }
        })
        .await
    }
}

/// A port as a Service's port asks for it; 0: any.
fn node_port(port: &Value) -> u16 {
    port["nodePort"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> NodePorts {
        NodePorts::new((30000, 30003), "k".to_owned())
    }

    #[test]
    fn the_bitmap_is_a_big_endian_number() {
        let mut bitmap = Bitmap::default();
        bitmap.set(0, true);
        bitmap.set(9, true);
        assert_eq!(bitmap.bytes(), [2, 1]);
        assert!(bitmap.has(9) && !bitmap.has(8) && !bitmap.has(100));
        bitmap.set(9, false);
        assert_eq!(bitmap.bytes(), [1]);
    }

    #[test]
    fn asked_for_ports_come_first_and_the_rest_is_free_ones() {
        let service =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "nodePort": 30002}]}});
        let mut bitmap = Bitmap::default();
        let (given, taken) = ports().plan(&service, &Held::default(), &mut bitmap).unwrap();
        assert_eq!(given["spec"]["ports"][1]["nodePort"], 30002);
        assert_ne!(given["spec"]["ports"][0]["nodePort"], 30002);
        assert_eq!(taken.len(), 2);
        let again = ports().plan(&service, &Held::default(), &mut bitmap).unwrap_err();
        assert_eq!(again, (1, 30002, "provided port is already allocated".to_owned()));
        let own = Held::by(&given);
        let (same, taken) = ports().plan(&given, &own, &mut bitmap).unwrap();
        assert_eq!((same, taken.len()), (given, 0));
    }

    #[test]
    fn ports_out_of_range_and_full_ranges_are_refused() {
        let asks = |port: u16| json!({"spec": {"type": "NodePort", "ports": [{"nodePort": port}]}});
        let outside = ports()
            .plan(&asks(80), &Held::default(), &mut Bitmap::default())
            .unwrap_err();
        assert!(outside.2.contains("30000-30003"), "{}", outside.2);
        let mut full = Bitmap(vec![0xff]);
        let none = ports().plan(&asks(0), &Held::default(), &mut full).unwrap_err();
        assert!(none.2.contains("range is full"), "{}", none.2);
    }
}
