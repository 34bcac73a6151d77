//! The static token file (`--token-auth-file`): one line per token: `token,user,uid,"group1,group2"`.

use std::sync::Arc;

use jiff::Timestamp;

use super::AuthError;
use super::bearer::{TokenAuthenticator, TokenUser};
use super::bootstrap_token::same;
use crate::user::UserInfo;

/// Tokens that never expire. They are compared one by one without telling how far they match.
pub struct TokenFile {
    tokens: Vec<(String, Arc<UserInfo>)>,
    audiences: Vec<String>,
}

impl TokenFile {
    /// # Errors
    /// A line has too few columns; says which, and nothing of its content.
    pub fn parse(text: &str, audiences: Vec<String>) -> Result<Self, String> {
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let columns = columns(line);
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                let number = number + 1;
                return Err(format!(
                    "token file line {number} must have at least 3 columns (token, user name, user uid)"
                ));
            };
            if token.is_empty() {
                continue;
            }
            let groups = rest.first().map_or("", String::as_str).split(',');
            let user = UserInfo {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups
                    .filter(|group| !group.is_empty())
                    .map(str::to_owned)
                    .collect(),
                ..UserInfo::default()
            };
            tokens.push((token.clone(), Arc::new(user)));
        }
        Ok(Self { tokens, audiences })
    }
}

/// The columns of a CSV line (RFC 4180), blanks around them cut.
fn columns(line: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        let column = columns.last_mut().expect("never empty");
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                column.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            other => column.push(other),
        }
    }
    columns.iter().map(|column| column.trim().to_owned()).collect()
}

impl TokenAuthenticator for TokenFile {
    fn authenticate_token(
        &self,
        token: &str,
        _audiences: &[String],
        _now: Timestamp,
    ) -> Result<Option<TokenUser>, AuthError> {
        let mut found = None;
        for (own, user) in &self.tokens {
            if same(own.as_bytes(), token.as_bytes()) {
                found = Some((user.clone(), self.audiences.clone()));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_users_and_groups() {
        let file = TokenFile::parse("t1,ann,1\n\nt2,bob,2,\"dev,ops\"\n", Vec::new()).unwrap();
        let ask = |token: &str| {
            file.authenticate_token(token, &[], Timestamp::UNIX_EPOCH)
                .unwrap()
        };
        assert_eq!(ask("t1").unwrap().0.groups, [""; 0]);
        assert_eq!(ask("t2").unwrap().0.groups, ["dev", "ops"]);
        assert_eq!(ask("t3"), None);
        let error = TokenFile::parse("secret,ann", Vec::new()).err().unwrap();
        assert_eq!(
            error,
            "token file line 1 must have at least 3 columns (token, user name, user uid)"
        );
    }
}
