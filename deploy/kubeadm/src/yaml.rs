//! YAML of values we built, as files and ConfigMaps carry it.

use serde::Serialize;

/// The text; every scalar we write is plain in YAML 1.1 too.
pub fn render(value: &impl Serialize) -> String {
    serde_yaml::to_string(value).expect("a value of strings, numbers, lists and string maps has a YAML form")
}
