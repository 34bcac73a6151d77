//! The order of a merged list: items of the patch in the patch's order, others where the server had them.

use serde_json::Value;

/// Where an item stands: by merge key, or by value where `key` is "".
pub(super) fn position(list: &[Value], item: &Value, key: &str) -> Option<usize> {
    match key {
        "" => list.iter().position(|one| one == item),
        key => {
            let value = item.get(key)?;
            list.iter().position(|one| one.get(key) == Some(value))
        }
    }
}

/// Items that `order` names, and those it does not.
pub(super) fn partition(items: Vec<Value>, order: &[Value], key: &str) -> (Vec<Value>, Vec<Value>) {
    items
        .into_iter()
        .partition(|item| position(order, item, key).is_some())
}

/// Merges the patch's items (in `patch_order`) with the server's own (in `server_order`).
pub(super) fn normalize_order(
    mut patched: Vec<Value>,
    mut others: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: &str,
) -> Vec<Value> {
    let rank = |order: &[Value], item: &Value| position(order, item, key).unwrap_or(usize::MAX);
    patched.sort_by_cached_key(|item| rank(patch_order, item));
    others.sort_by_cached_key(|item| rank(server_order, item));
    let mut merged = Vec::with_capacity(patched.len() + others.len());
    let mut patched = patched.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    while let (Some(other), Some(item)) = (others.peek(), patched.peek()) {
        let places = (
            position(server_order, other, key),
            position(server_order, item, key),
        );
        let other_first = matches!(places, (Some(other), Some(item)) if other < item);
        merged.extend(if other_first {
            others.next()
        } else {
            patched.next()
        });
    }
    merged.extend(others);
    merged.extend(patched);
    merged
}
