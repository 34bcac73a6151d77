//! The wire definitions as tables: messages, enums and methods by name.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use keelson_proto::etcd::DESCRIPTORS;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Read once; the definitions are part of the program.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::read);

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int32,
    Uint32,
    Int64,
    Uint64,
    Text,
    Bytes,
    Enum(String),
    Message(String),
}

/// A field.
#[derive(Debug)]
pub struct Field {
    pub name: String,
    /// The other name JSON may use.
    pub camel: String,
    pub number: u32,
    pub kind: Kind,
    pub repeated: bool,
}

/// A method.
#[derive(Debug)]
pub struct Method {
    pub input: String,
    pub output: String,
    /// Whether the answer is a stream.
    pub streams: bool,
}

/// All definitions; names without a leading dot.
#[derive(Debug, Default)]
pub struct Schema {
    messages: BTreeMap<String, Vec<Field>>,
    enums: BTreeMap<String, Vec<(String, i32)>>,
    methods: BTreeMap<String, Method>,
}

impl Schema {
    fn read() -> Self {
        let set = FileDescriptorSet::decode(DESCRIPTORS).expect("the build made the descriptors");
        let mut schema = Self::default();
        for file in set.file {
            let package = file.package().to_owned();
            for message in &file.message_type {
                schema.message(&package, message);
            }
            for one in &file.enum_type {
                schema.enumeration(&package, one);
            }
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{package}.{}/{}", service.name(), method.name());
                    schema.methods.insert(
                        name,
                        Method {
                            input: bare(method.input_type()),
                            output: bare(method.output_type()),
                            streams: method.server_streaming(),
                        },
                    );
                }
            }
        }
        schema
    }

    fn message(&mut self, owner: &str, message: &DescriptorProto) {
        let name = format!("{owner}.{}", message.name());
        for inner in &message.nested_type {
            self.message(&name, inner);
        }
        for one in &message.enum_type {
            self.enumeration(&name, one);
        }
        let fields = message.field.iter().map(field).collect();
        self.messages.insert(name, fields);
    }

    fn enumeration(&mut self, owner: &str, one: &EnumDescriptorProto) {
        let values = one.value.iter();
        let values = values.map(|value| (value.name().to_owned(), value.number()));
        self.enums
            .insert(format!("{owner}.{}", one.name()), values.collect());
    }

    /// A method that is known to exist.
    pub fn method(&self, name: &str) -> &Method {
        self.find(name).expect("routes name methods that exist")
    }

    /// A method.
    pub fn find(&self, name: &str) -> Option<&Method> {
        self.methods.get(name)
    }

    /// Names of all methods.
    #[cfg(test)]
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.keys().map(String::as_str)
    }

    /// The fields of a message, by number.
    pub fn fields(&self, message: &str) -> &[Field] {
        self.messages.get(message).map_or(&[], Vec::as_slice)
    }

    /// The values of an enum.
    pub fn values(&self, name: &str) -> &[(String, i32)] {
        self.enums.get(name).map_or(&[], Vec::as_slice)
    }
}

fn bare(name: &str) -> String {
    name.trim_start_matches('.').to_owned()
}

fn field(field: &FieldDescriptorProto) -> Field {
    let kind = match field.r#type() {
        Type::Bool => Kind::Bool,
        Type::Int32 => Kind::Int32,
        Type::Uint32 => Kind::Uint32,
        Type::Int64 => Kind::Int64,
        Type::Uint64 => Kind::Uint64,
        Type::String => Kind::Text,
        Type::Bytes => Kind::Bytes,
        Type::Enum => Kind::Enum(bare(field.type_name())),
        Type::Message => Kind::Message(bare(field.type_name())),
        other => unreachable!("etcd's definitions have no fields of the type {other:?}"),
    };
    Field {
        name: field.name().to_owned(),
        camel: field.json_name().to_owned(),
        number: u32::try_from(field.number()).expect("field numbers are positive"),
        kind,
        repeated: field.label() == Label::Repeated,
    }
}
