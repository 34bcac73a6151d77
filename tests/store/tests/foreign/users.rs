//! Users, roles and what they may do, with authentication switched on and off again.

use etcd_client::{Client, ConnectOptions, GetOptions, Permission, Txn, TxnOp};

use super::{Transcript, answer};

pub async fn script(client: &mut Client, url: &str, seen: &mut Transcript) -> anyhow::Result<()> {
    seen.say("enable too early", client.auth_enable().await);
    seen.say("add root", client.user_add("root", "secret", None).await);
    seen.say("add again", client.user_add("root", "secret", None).await);
    seen.say("enable without the role", client.auth_enable().await);
    seen.say("add a role", client.role_add("root").await);
    seen.say("grant it", client.user_grant_role("root", "root").await);
    seen.say("add ann", client.user_add("ann", "word", None).await);
    seen.say("add a role", client.role_add("reader").await);
    seen.say("add it again", client.role_add("reader").await);
    let read = Permission::read("k/").with_prefix();
    seen.say("permit", client.role_grant_permission("reader", read).await);
    let write = Permission::read_write("own");
    seen.say("permit", client.role_grant_permission("reader", write).await);
    seen.say("role", client.role_get("reader").await);
    seen.say("no role", client.role_get("none").await);
    seen.say("grant", client.user_grant_role("ann", "reader").await);
    seen.say("grant none", client.user_grant_role("ann", "none").await);
    seen.say("user", client.user_get("ann").await);
    seen.say("users", client.user_list().await);
    seen.say("roles", client.role_list().await);
    seen.say("enable", client.auth_enable().await);
    seen.say("no token", client.put("own", "1", None).await);
    let wrong = ConnectOptions::new().with_user("ann", "wrong");
    let refused = Client::connect([url], Some(wrong)).await;
    seen.say("wrong password", refused.map(|_| ()));
    let user = ConnectOptions::new().with_user("ann", "word");
    let mut ann = Client::connect([url], Some(user)).await?;
    seen.say("own", ann.put("own", "1", None).await);
    seen.say("read", ann.get("k/", Some(GetOptions::new().with_prefix())).await);
    seen.say(
        "read more",
        ann.get("k", Some(GetOptions::new().with_prefix())).await,
    );
    seen.say("write", ann.put("k/a", "1", None).await);
    seen.say("add a user", ann.user_add("eve", "x", None).await);
    seen.say("self", ann.user_get("ann").await);
    let txn = Txn::new().and_then([TxnOp::put("own", "2", None), TxnOp::put("k/a", "2", None)]);
    seen.say("txn", ann.txn(txn).await);
    let mut refused = ann.watch("secret", None).await?;
    answer(&mut refused, "watch", seen).await?;
    let root = ConnectOptions::new().with_user("root", "secret");
    let mut root = Client::connect([url], Some(root)).await?;
    seen.say("revoke", root.role_revoke_permission("reader", "own", None).await);
    seen.say(
        "revoke again",
        root.role_revoke_permission("reader", "own", None).await,
    );
    seen.say("own no more", ann.put("own", "3", None).await);
    seen.say("take the role", root.user_revoke_role("ann", "reader").await);
    seen.say("take it again", root.user_revoke_role("ann", "reader").await);
    seen.say("password", root.user_change_password("ann", "new").await);
    seen.say("drop the role", root.role_delete("reader").await);
    seen.say("drop it again", root.role_delete("reader").await);
    seen.say("drop ann", root.user_delete("ann").await);
    seen.say("drop her again", root.user_delete("ann").await);
    seen.say("drop root", root.user_delete("root").await);
    seen.say("disable", root.auth_disable().await);
    seen.say("disabled", client.put("own", "4", None).await);
    Ok(())
}
