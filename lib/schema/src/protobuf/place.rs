//! Where parts of an object stand in its raw message, for those who share bytes instead of copying them.

use std::ops::Range;

use super::wire::each_field;

/// Number of the metadata in every object.
const METADATA: u32 = 1;
/// Numbers of `ObjectMeta.managedFields`, `ManagedFieldsEntry.fieldsV1` and `FieldsV1.raw`.
const MANAGED_FIELDS: u32 = 17;
const FIELDS_V1: u32 = 7;
const RAW: u32 = 1;

/// Length of a message's metadata with tag and length; 0 where another field than 1 comes first.
pub fn metadata_len(message: &[u8]) -> usize {
    let mut end = 0;
    let mut leading = true;
    let _ = each_field(message, |number, field| {
        if std::mem::take(&mut leading) && number == METADATA {
            end = place(message, field.bytes("metadata")?).end;
        }
        Ok(())
    });
    end
}

/// Where the JSON of `metadata.managedFields[].fieldsV1` stands in an object's message, in order.
pub fn owned_fields(message: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let Some(metadata) = bytes_of(message, METADATA) else {
        return found;
    };
    // A message of ours is never broken; of one that were, what was found before the break is as true.
    let _ = each_field(metadata, |number, entry| {
        if number == MANAGED_FIELDS
            && let Some(fields) = bytes_of(entry.bytes("managedFields")?, FIELDS_V1)
            && let Some(json) = bytes_of(fields, RAW)
        {
            found.push(place(message, json));
        }
        Ok(())
    });
    found
}

/// The bytes of the first field of this number.
fn bytes_of(message: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut found = None;
    let _ = each_field(message, |number, field| {
        if found.is_none() && number == wanted {
            found = Some(field.bytes("")?);
        }
        Ok(())
    });
    found
}

/// Where a part of the message stands in it.
fn place(message: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - message.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::encode_as;
    use crate::types;
    use serde_json::json;

    #[test]
    fn owned_fields_are_found_where_they_stand() {
        let def = types::of("", "v1", "Pod").unwrap();
        let entry = |fields| json!({"manager": "m", "operation": "Update", "fieldsV1": fields});
        let pod = json!({"metadata": {"name": "p", "managedFields": [
            entry(json!({"f:a": {}})), {"manager": "n"}, entry(json!({"f:b": {"f:c": {}}}))]}});
        let message = encode_as(&pod, def).unwrap();
        let found: Vec<&[u8]> = owned_fields(&message)
            .into_iter()
            .map(|range| &message[range])
            .collect();
        assert_eq!(found, [&br#"{"f:a":{}}"#[..], br#"{"f:b":{"f:c":{}}}"#]);
        let metadata = metadata_len(&message);
        assert_eq!(message[metadata] >> 3, 2, "the spec follows");
        assert_eq!(owned_fields(&[]), []);
        assert_eq!(metadata_len(&message[metadata..]), 0);
    }
}
