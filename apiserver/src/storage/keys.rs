//! Where objects lie in the store: upstream's keys, so that either server can take over the other's store.

use keelson_schema::resources::ResourceInfo;

/// Makes keys below `--etcd-prefix`.
#[derive(Clone, Debug)]
pub struct Keys {
    root: String,
}

impl Keys {
    /// `prefix` as given by the flag: `/registry`, with or without slashes around it.
    pub fn new(prefix: &str) -> Self {
        Self {
            root: format!("/{}/", prefix.trim_matches('/')),
        }
    }

    /// The prefix of everything this server stores: `/registry/`.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The prefix of a resource's objects: `/registry/pods/`.
    pub fn resource(&self, info: &ResourceInfo) -> String {
        format!("{}{}/", self.root, info.storage_prefix)
    }

    /// A key that no resource uses.
    pub fn other(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }
}

/// The end of the range of all keys with this prefix.
pub fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    // Only 0xff bytes, or none: etcd's "to the end of the keyspace".
    vec![0]
}

/// The key of an object below its resource's prefix: `ns/name`, or `name`.
pub fn local(namespace: &str, name: &str) -> String {
    match namespace {
        "" => name.to_owned(),
        _ => format!("{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(range_end(b"/registry/pods/"), b"/registry/pods0");
        assert_eq!(range_end(&[1, 0xff]), [2]);
        assert_eq!(range_end(&[0xff]), [0]);
    }

    #[test]
    fn the_flag_is_taken_with_any_slashes() {
        for prefix in ["/registry", "registry/", "/registry/"] {
            assert_eq!(Keys::new(prefix).root(), "/registry/");
        }
    }
}
