//! The messages of gnostic's `openapiv2/OpenAPIv2.proto`, by the names their fields have in JSON.
//!
//! Left out: what no document of ours has (forms, OAuth2, headers, examples, limits of numbers and lengths, external docs).

use serde_json::Value;

/// A message: its fields, and the number of the list that holds every field whose name starts with `x-`.
pub(super) struct Message {
    pub(super) fields: &'static [(&'static str, u32, Kind)],
    pub(super) extensions: u32,
}

/// How the value of a field is written.
pub(super) enum Kind {
    Text,
    Flag,
    Double,
    /// Without a place in protobuf.
    Nothing,
    /// Any value, as YAML.
    Any,
    /// Every item of a list, or a single one.
    Repeated(&'static Kind),
    /// A map, as a message with a list of names and values; and a list of extensions, where that has a number.
    Named {
        entries: u32,
        extensions: u32,
        value: &'static Kind,
    },
    Message(&'static Message),
    /// The only field of a message that is not there in JSON.
    Within(u32, &'static Kind),
    /// What depends on the value.
    Choice(fn(&Value) -> &'static Kind),
}

use Kind::{Any, Choice, Flag, Named, Repeated, Text, Within};

pub(super) const TEXTS: Kind = Repeated(&Text);

pub(super) const fn map(value: &'static Kind) -> Kind {
    Named {
        entries: 1,
        extensions: 0,
        value,
    }
}

pub(super) static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, Kind::Message(&INFO)),
        (
            "paths",
            8,
            Named {
                entries: 2,
                extensions: 1,
                value: &Kind::Message(&PATH_ITEM),
            },
        ),
        ("definitions", 9, map(&Kind::Message(&SCHEMA))),
        ("security", 12, Repeated(&map(&Within(1, &TEXTS)))),
        (
            "securityDefinitions",
            13,
            map(&Within(2, &Kind::Message(&API_KEY_SECURITY))),
        ),
    ],
    extensions: 16,
};

static INFO: Message = Message {
    fields: &[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)],
    extensions: 7,
};

static API_KEY_SECURITY: Message = Message {
    fields: &[
        ("type", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("description", 4, Text),
    ],
    extensions: 5,
};

static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, Kind::Message(&OPERATION)),
        ("put", 3, Kind::Message(&OPERATION)),
        ("post", 4, Kind::Message(&OPERATION)),
        ("delete", 5, Kind::Message(&OPERATION)),
        ("options", 6, Kind::Message(&OPERATION)),
        ("head", 7, Kind::Message(&OPERATION)),
        ("patch", 8, Kind::Message(&OPERATION)),
        ("parameters", 9, PARAMETERS),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, TEXTS),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, TEXTS),
        ("consumes", 7, TEXTS),
        ("parameters", 8, PARAMETERS),
        (
            "responses",
            9,
            Named {
                entries: 1,
                extensions: 2,
                value: &Within(1, &Kind::Message(&RESPONSE)),
            },
        ),
        ("schemes", 10, TEXTS),
        ("deprecated", 11, Flag),
    ],
    extensions: 13,
};

/// Parameters stand in their place: none of ours is a reference, which would be field 2 beside field 1.
const PARAMETERS: Kind = Repeated(&Within(1, &Choice(parameter)));

/// Where a parameter is given decides the message it is.
fn parameter(value: &Value) -> &'static Kind {
    static BODY: Kind = Within(1, &Kind::Message(&BODY_PARAMETER));
    static HEADER: Kind = Within(2, &Within(1, &Kind::Message(&PLAIN_PARAMETER)));
    static QUERY: Kind = Within(2, &Within(3, &Kind::Message(&QUERY_PARAMETER)));
    static PATH: Kind = Within(2, &Within(4, &Kind::Message(&PLAIN_PARAMETER)));
    match value["in"].as_str() {
        Some("body") => &BODY,
        Some("header") => &HEADER,
        Some("path") => &PATH,
        _ => &QUERY,
    }
}

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, Kind::Message(&SCHEMA)),
    ],
    extensions: 6,
};

/// `HeaderParameterSubSchema` and `PathParameterSubSchema`.
static PLAIN_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("default", 9, Any),
        ("uniqueItems", 19, Flag),
        ("enum", 20, Repeated(&Any)),
    ],
    extensions: 22,
};

/// `QueryParameterSubSchema`: one field more, before the type.
static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Flag),
        ("type", 6, Text),
        ("format", 7, Text),
        ("default", 10, Any),
        ("uniqueItems", 20, Flag),
        ("enum", 21, Repeated(&Any)),
    ],
    extensions: 23,
};

static RESPONSE: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("schema", 2, Within(1, &Kind::Message(&SCHEMA))),
    ],
    extensions: 5,
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("pattern", 13, Text),
        ("uniqueItems", 16, Flag),
        ("required", 19, TEXTS),
        ("enum", 20, Repeated(&Any)),
        ("additionalProperties", 21, Choice(additional_properties)),
        ("type", 22, Within(1, &TEXTS)),
        ("items", 23, Within(1, &Repeated(&Kind::Message(&SCHEMA)))),
        ("allOf", 24, Repeated(&Kind::Message(&SCHEMA))),
        ("properties", 25, map(&Kind::Message(&SCHEMA))),
        ("discriminator", 26, Text),
        ("readOnly", 27, Flag),
        ("example", 30, Any),
    ],
    extensions: 31,
};

fn additional_properties(value: &Value) -> &'static Kind {
    static WHETHER: Kind = Within(2, &Flag);
    static WHAT: Kind = Within(1, &Kind::Message(&SCHEMA));
    if value.is_boolean() { &WHETHER } else { &WHAT }
}
