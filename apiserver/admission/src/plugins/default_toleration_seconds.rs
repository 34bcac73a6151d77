//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not reachable, unless it says otherwise.

use keelson_machinery::{ObjectReader, Status};
use serde_json::{Value, json};

use crate::value::{items, push, str_of};
use crate::{Admission, AdmissionAttributes, Operation};

/// Both in seconds: `--default-not-ready-toleration-seconds` and `--default-unreachable-toleration-seconds`.
pub struct DefaultTolerationSeconds {
    pub not_ready_s: i64,
    pub unreachable_s: i64,
}

impl Default for DefaultTolerationSeconds {
    fn default() -> Self {
        Self {
            not_ready_s: 300,
            unreachable_s: 300,
        }
    }
}

impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        matches!(a.operation, Operation::Create | Operation::Update) && a.is("", "pods")
    }

    fn mutate(
        &self,
        _: &AdmissionAttributes<'_>,
        pod: &mut Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let both = [
            ("node.kubernetes.io/not-ready", self.not_ready_s),
            ("node.kubernetes.io/unreachable", self.unreachable_s),
        ];
        for (key, seconds) in both {
            let tolerations = &mut pod["spec"]["tolerations"];
            let tolerated = items(tolerations).any(|own| {
                let (own_key, effect) = (str_of(&own["key"]), str_of(&own["effect"]));
                (own_key == key || own_key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            });
            if !tolerated {
                let added = json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
                });
                push(tolerations, added);
            }
        }
        if pod["spec"]["tolerations"].is_null()
            && let Some(spec) = pod["spec"].as_object_mut()
        {
            spec.remove("tolerations");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;

    #[test]
    fn both_are_added_unless_tolerated() {
        let added = |name: &str| {
            let key = format!("node.kubernetes.io/{name}");
            json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
        };
        let (not_ready, unreachable) = (added("not-ready"), added("unreachable"));
        let own = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists"});
        let all = json!({"operator": "Exists"});
        for (given, wanted) in [
            (json!([]), json!([not_ready, unreachable])),
            (json!([own]), json!([own, unreachable])),
            (json!([all]), json!([all])),
        ] {
            let case = Case::pod(Operation::Create, json!({"spec": {"tolerations": given}}));
            let pod = case
                .run(&DefaultTolerationSeconds::default(), &[])
                .object()
                .unwrap();
            assert_eq!(pod["spec"]["tolerations"], wanted);
        }
    }
}
