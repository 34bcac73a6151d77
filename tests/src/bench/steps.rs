//! Where the time of a round goes, by the components' own numbers: each CRI call, each write to the API server, the
//! kubelet's steps, and the CPU of every process.
//!
//! The metrics' names are upstream's, so that any cluster can be asked; what a cluster does not serve is left out.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams};

use super::processes;

const CRI: &str = "kubelet_runtime_operations_duration_seconds";
const POD_STEPS: &str = "kubelet_pod_start_step_duration_seconds";
const REQUESTS: &str = "apiserver_request_duration_seconds";

/// Sums of one histogram series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Series {
    count: f64,
    sum: f64,
}

/// All numbers at one moment.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// By what is shown as the row's name.
    series: BTreeMap<String, Series>,
    /// CPU in microseconds by process; `machine` is everything together.
    cpu_us: BTreeMap<String, u64>,
}

/// Reads the numbers of the API server, of all kubelets, and of the processes in `run_dir`.
pub async fn read(client: &Client, run_dir: Option<&Path>) -> anyhow::Result<Numbers> {
    let mut numbers = Numbers::default();
    let nodes: Api<Node> = Api::all(client.clone());
    for node in nodes.list(&ListParams::default()).await?.items {
        let name = node.metadata.name.unwrap_or_default();
        let text = fetch(client, &format!("/api/v1/nodes/{name}/proxy/metrics")).await?;
        numbers.add(&text, CRI, "CRI", &["operation_type"]);
        numbers.add(&text, POD_STEPS, "kubelet", &["step"]);
    }
    let text = fetch(client, "/metrics").await?;
    numbers.add(&text, REQUESTS, "API", &["verb", "resource", "subresource"]);
    if let Some(run_dir) = run_dir {
        for process in processes::list(run_dir)? {
            numbers
                .cpu_us
                .insert(process.name, processes::cpu_us(process.pid)?);
        }
        numbers
            .cpu_us
            .insert("machine".to_owned(), processes::machine_cpu_us()?);
    }
    Ok(numbers)
}

async fn fetch(client: &Client, path: &str) -> anyhow::Result<String> {
    let request = http::Request::get(path).body(Vec::new())?;
    Ok(client.request_text(request).await?)
}

impl Numbers {
    fn add(&mut self, text: &str, metric: &str, prefix: &str, labels: &[&str]) {
        for line in text.lines() {
            let Some((kind, rest)) = line.strip_prefix(metric).and_then(|rest| rest.split_once('{')) else {
                continue;
            };
            let Some((label_text, value)) = rest.rsplit_once('}') else {
                continue;
            };
            // OpenMetrics may add a time behind the value.
            let value = value
                .split_whitespace()
                .next()
                .and_then(|v| v.parse::<f64>().ok());
            let Some(value) = value else { continue };
            let words = labels.iter().filter_map(|label| label_value(label_text, label));
            let name = std::iter::once(prefix)
                .chain(words.filter(|word| !word.is_empty()))
                .collect::<Vec<_>>()
                .join(" ");
            let series = self.series.entry(name).or_default();
            match kind {
                "_count" => series.count += value,
                "_sum" => series.sum += value,
                _ => {}
            }
        }
    }

    /// Prints what came in between, per round.
    pub fn print_since(&self, before: &Numbers, rounds: usize) {
        let rounds = rounds.max(1) as f64;
        println!(
            "{:42}{:>10}{:>10}{:>12}",
            "per round", "calls", "mean ms", "sum ms"
        );
        for (name, now) in &self.series {
            let then = before.series.get(name).copied().unwrap_or_default();
            let (count, sum) = (now.count - then.count, now.sum - then.sum);
            if count > 0.0 {
                let (calls, mean, total) = (count / rounds, sum / count * 1e3, sum / rounds * 1e3);
                println!("{name:42}{calls:>10.1}{mean:>10.2}{total:>12.1}");
            }
        }
        for (name, now) in &self.cpu_us {
            let spent = now.saturating_sub(before.cpu_us.get(name).copied().unwrap_or(0));
            println!(
                "{:42}{:>32.1}",
                format!("CPU {name}"),
                spent as f64 / rounds / 1e3
            );
        }
    }
}

/// The value of one label; none of the labels asked for is part of another's name or holds a quotation mark.
fn label_value<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_summed_over_the_labels_left_out() {
        let text = "# HELP x y\n\
            apiserver_request_duration_seconds_bucket{verb=\"POST\",resource=\"pods\",le=\"0.1\"} 5\n\
            apiserver_request_duration_seconds_count{verb=\"POST\",resource=\"pods\",subresource=\"\",scope=\"a\"} 2\n\
            apiserver_request_duration_seconds_count{verb=\"POST\",resource=\"pods\",subresource=\"\",scope=\"b\"} 1 17\n\
            apiserver_request_duration_seconds_sum{verb=\"POST\",resource=\"pods\",subresource=\"\",scope=\"a\"} 0.25\n\
            other_count{verb=\"POST\"} 9\n";
        let mut numbers = Numbers::default();
        numbers.add(text, REQUESTS, "API", &["verb", "resource", "subresource"]);
        let expected = Series {
            count: 3.0,
            sum: 0.25,
        };
        assert_eq!(numbers.series.get("API POST pods"), Some(&expected));
        assert_eq!(numbers.series.len(), 1);
    }
}
