//! DenyServiceExternalIPs (off by default): nobody takes over an address by naming it in a Service.

use keelson_machinery::{ObjectReader, Status};
use serde_json::Value;

use crate::value::items;
use crate::{Admission, AdmissionAttributes, Operation};

pub struct DenyServiceExternalIPs;

impl Admission for DenyServiceExternalIPs {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        matches!(a.operation, Operation::Create | Operation::Update) && a.is("", "services")
    }

    /// What a Service has already, it may keep.
    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        service: &Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let old = &a.old.unwrap_or(&Value::Null)["spec"]["externalIPs"];
        let mut new = items(&service["spec"]["externalIPs"]);
        match new.all(|ip| items(old).any(|own| own == ip)) {
            true => Ok(()),
            false => Err(a.forbidden(service, "Use of external IPs is denied by admission control")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;
    use serde_json::json;

    #[test]
    fn new_addresses_are_denied() {
        let service = |ips: Value| json!({"metadata": {"name": "s"}, "spec": {"externalIPs": ips}});
        for (new, denied) in [(json!(["1.1.1.1"]), false), (json!(["1.1.1.1", "2.2.2.2"]), true)] {
            let mut case = Case::new(Operation::Update, ("", "Service", "services"), service(new));
            case.old = Some(service(json!(["1.1.1.1"])));
            let message = "services \"s\" is forbidden: Use of external IPs is denied by admission control";
            assert_eq!(
                case.run(&DenyServiceExternalIPs, &[]).message(),
                if denied { message } else { "" }
            );
        }
    }
}
