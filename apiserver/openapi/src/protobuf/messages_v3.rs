//! The messages of gnostic's `openapiv3/OpenAPIv3.proto`, by the names their fields have in JSON.
//!
//! Left out: what no document of ours has (headers, examples, links, callbacks, servers, limits of numbers and lengths).

use serde_json::Value;

use super::messages::{Kind, Message, TEXTS, map};
use Kind::{Any, Choice, Double, Flag, Named, Nothing, Repeated, Text, Within};

pub(super) static DOCUMENT: Message = Message {
    fields: &[
        ("openapi", 1, Text),
        ("info", 2, Kind::Message(&INFO)),
        (
            "paths",
            4,
            Named {
                entries: 1,
                extensions: 2,
                value: &Kind::Message(&PATH_ITEM),
            },
        ),
        ("components", 5, Kind::Message(&COMPONENTS)),
    ],
    extensions: 9,
};

static INFO: Message = Message {
    fields: &[("title", 1, Text), ("description", 2, Text), ("version", 6, Text)],
    extensions: 7,
};

static COMPONENTS: Message = Message {
    fields: &[
        ("schemas", 1, map(&SCHEMA_OR_REFERENCE)),
        (
            "securitySchemes",
            7,
            map(&Within(1, &Kind::Message(&SECURITY_SCHEME))),
        ),
    ],
    extensions: 10,
};

static SECURITY_SCHEME: Message = Message {
    fields: &[
        ("type", 1, Text),
        ("description", 2, Text),
        ("name", 3, Text),
        ("in", 4, Text),
    ],
    extensions: 9,
};

static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 4, Kind::Message(&OPERATION)),
        ("put", 5, Kind::Message(&OPERATION)),
        ("post", 6, Kind::Message(&OPERATION)),
        ("delete", 7, Kind::Message(&OPERATION)),
        ("options", 8, Kind::Message(&OPERATION)),
        ("head", 9, Kind::Message(&OPERATION)),
        ("patch", 10, Kind::Message(&OPERATION)),
        ("parameters", 13, PARAMETERS),
    ],
    extensions: 14,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, TEXTS),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("parameters", 6, PARAMETERS),
        ("requestBody", 7, Within(1, &Kind::Message(&REQUEST_BODY))),
        (
            "responses",
            8,
            Named {
                entries: 2,
                extensions: 3,
                value: &Within(1, &Kind::Message(&RESPONSE)),
            },
        ),
        ("deprecated", 10, Flag),
    ],
    extensions: 13,
};

/// Parameters stand in their place: none of ours is a reference, which would be field 2 beside field 1.
const PARAMETERS: Kind = Repeated(&Within(1, &Kind::Message(&PARAMETER)));

static PARAMETER: Message = Message {
    fields: &[
        ("name", 1, Text),
        ("in", 2, Text),
        ("description", 3, Text),
        ("required", 4, Flag),
        ("deprecated", 5, Flag),
        ("allowEmptyValue", 6, Flag),
        ("schema", 10, SCHEMA_OR_REFERENCE),
    ],
    extensions: 14,
};

static REQUEST_BODY: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("content", 2, CONTENT),
        ("required", 3, Flag),
    ],
    extensions: 4,
};

static RESPONSE: Message = Message {
    fields: &[("description", 1, Text), ("content", 3, CONTENT)],
    extensions: 5,
};

/// By media type.
const CONTENT: Kind = Named {
    entries: 1,
    extensions: 0,
    value: &Kind::Message(&MEDIA_TYPE),
};

static MEDIA_TYPE: Message = Message {
    fields: &[("schema", 1, SCHEMA_OR_REFERENCE)],
    extensions: 5,
};

const SCHEMA_OR_REFERENCE: Kind = Choice(schema_or_reference);

fn schema_or_reference(value: &Value) -> &'static Kind {
    static HERE: Kind = Within(1, &Kind::Message(&SCHEMA));
    static THERE: Kind = Within(2, &Kind::Message(&REFERENCE));
    if value.get("$ref").is_some() {
        &THERE
    } else {
        &HERE
    }
}

static REFERENCE: Message = Message {
    fields: &[("$ref", 1, Text), ("description", 3, Text)],
    extensions: 0,
};

static SCHEMA: Message = Message {
    fields: &[
        ("nullable", 1, Flag),
        ("readOnly", 3, Flag),
        ("example", 7, Any),
        ("title", 9, Text),
        ("pattern", 17, Text),
        ("uniqueItems", 20, Flag),
        ("required", 23, TEXTS),
        ("enum", 24, Repeated(&Any)),
        ("type", 25, Text),
        ("allOf", 26, Repeated(&SCHEMA_OR_REFERENCE)),
        ("oneOf", 27, Repeated(&SCHEMA_OR_REFERENCE)),
        ("anyOf", 28, Repeated(&SCHEMA_OR_REFERENCE)),
        ("items", 30, Within(1, &Repeated(&SCHEMA_OR_REFERENCE))),
        ("properties", 31, map(&SCHEMA_OR_REFERENCE)),
        ("additionalProperties", 32, Choice(additional_properties)),
        ("default", 33, Choice(default)),
        ("description", 34, Text),
        ("format", 35, Text),
    ],
    extensions: 36,
};

fn additional_properties(value: &Value) -> &'static Kind {
    static WHETHER: Kind = Within(2, &Flag);
    static WHAT: Kind = Within(1, &SCHEMA_OR_REFERENCE);
    if value.is_boolean() { &WHETHER } else { &WHAT }
}

/// Only numbers, booleans and texts have a place as defaults.
fn default(value: &Value) -> &'static Kind {
    static NUMBER: Kind = Within(1, &Double);
    static BOOLEAN: Kind = Within(2, &Flag);
    static TEXT: Kind = Within(3, &Text);
    match value {
        Value::Number(_) => &NUMBER,
        Value::Bool(_) => &BOOLEAN,
        Value::String(_) => &TEXT,
        _ => &Nothing,
    }
}
