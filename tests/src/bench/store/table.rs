//! The one table: each row both servers' figures, their ratio, and the bar.

use super::cluster::Server;

/// What a row's ratio (ours to etcd's), or our figure alone, must be.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// For orientation.
    None,
    RatioAtLeast(f64),
    RatioAtMost(f64),
    AtMost(f64),
}

#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    bar: Bar,
    ours: Vec<f64>,
    etcd: Vec<f64>,
}

/// Figures as they come; a row's figure is the median of its samples.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a sample to a row, which is made by its first.
    pub fn add(&mut self, server: Server, name: &str, unit: &'static str, bar: Bar, figure: f64) {
        let known = self.rows.iter().position(|row| row.name == name);
        let place = known.unwrap_or_else(|| {
            self.rows.push(Row {
                name: name.to_owned(),
                unit,
                bar,
                ours: Vec::new(),
                etcd: Vec::new(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[place];
        match server {
            Server::KubeStore => row.ours.push(figure),
            Server::Etcd => row.etcd.push(figure),
        }
    }

    /// A row's figure.
    pub fn figure(&self, server: Server, name: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        middle(match server {
            Server::KubeStore => &row.ours,
            Server::Etcd => &row.etcd,
        })
    }

    /// Prints all rows, as Markdown.
    pub fn print(&self) {
        println!("| what | unit | kube-store | etcd | ratio | bar | |");
        println!("|---|---|---|---|---|---|---|");
        for row in &self.rows {
            let (ours, etcd) = (middle(&row.ours), middle(&row.etcd));
            let ratio = ours
                .zip(etcd)
                .filter(|(_, etcd)| *etcd > 0.0)
                .map(|(ours, etcd)| ours / etcd);
            let (bar, met) = judge(row.bar, ours, ratio);
            println!(
                "| {} | {} | {} | {} | {} | {bar} | {met} |",
                row.name,
                row.unit,
                shown(ours),
                shown(etcd),
                shown(ratio)
            );
        }
    }
}

fn judge(bar: Bar, ours: Option<f64>, ratio: Option<f64>) -> (String, &'static str) {
    let (text, met) = match bar {
        Bar::None => return (String::new(), ""),
        Bar::RatioAtLeast(least) => (format!(">= {least:.2}x"), ratio.map(|ratio| ratio >= least)),
        Bar::RatioAtMost(most) => (format!("<= {most:.2}x"), ratio.map(|ratio| ratio <= most)),
        Bar::AtMost(most) => (format!("<= {most:.0}"), ours.map(|ours| ours <= most)),
    };
    let met = match met {
        None => "not known",
        Some(true) => "met",
        Some(false) => "missed",
    };
    (text, met)
}

/// The middle of the samples; of an even count the lower one.
fn middle(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

fn shown(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if figure >= 100.0 => format!("{figure:.0}"),
        Some(figure) if figure >= 1.0 => format!("{figure:.2}"),
        Some(figure) => format!("{figure:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_by_its_medians() {
        let mut table = Table::default();
        for (ours, etcd) in [(1.0, 9.0), (3.0, 4.0), (2.0, 5.0)] {
            table.add(Server::KubeStore, "row", "ms", Bar::RatioAtMost(0.5), ours);
            table.add(Server::Etcd, "row", "ms", Bar::RatioAtMost(0.5), etcd);
        }
        assert_eq!(table.figure(Server::KubeStore, "row"), Some(2.0));
        assert_eq!(table.figure(Server::Etcd, "row"), Some(5.0));
        assert_eq!(table.figure(Server::Etcd, "other"), None);
        let verdict = |bar, ours: f64, etcd: f64| judge(bar, Some(ours), Some(ours / etcd)).1;
        assert_eq!(verdict(Bar::RatioAtMost(0.5), 2.0, 5.0), "met");
        assert_eq!(verdict(Bar::RatioAtMost(0.5), 3.0, 5.0), "missed");
        assert_eq!(verdict(Bar::RatioAtLeast(1.0), 3.0, 5.0), "missed");
        assert_eq!(verdict(Bar::AtMost(3.0), 3.0, 5.0), "met");
        assert_eq!(judge(Bar::AtMost(3.0), None, None).1, "not known");
    }
}
