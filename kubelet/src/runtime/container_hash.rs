//! The hash that tells whether a running container still is what the spec asks for.
//!
//! Upstream hashes only the name and the image (since 1.31): FNV-1a, 32 bits, over the debug form of the JSON bytes of
//! those two fields. The same value is computed here, so that swapping kubelets restarts nothing.

use k8s_openapi::api::core::v1::Container;
use std::fmt::Write;

/// The hash of a container's definition.
pub fn of(container: &Container) -> u32 {
    let json = format!(
        "{{\"image\":{},\"name\":{}}}",
        json_string(container.image.as_deref().unwrap_or_default()),
        json_string(&container.name)
    );
    let mut text = String::with_capacity(json.len() * 4 + 12);
    text.push_str("([]uint8)[");
    for (i, byte) in json.bytes().enumerate() {
        let space = if i > 0 { " " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{space}{byte}");
    }
    text.push(']');
    fnv1a(text.as_bytes())
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_its_published_vectors() {
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn only_name_and_image_count() {
        let a = Container {
            name: "a".into(),
            image: Some("x".into()),
            ..Container::default()
        };
        let same = Container {
            command: Some(vec!["y".into()]),
            ..a.clone()
        };
        let other = Container {
            image: Some("z".into()),
            ..a.clone()
        };
        assert_eq!(of(&a), of(&same));
        assert_ne!(of(&a), of(&other));
    }
}
