//! Logs of a database or cache: of the pod that takes writes, of one copy, or of all.

use std::io;

use futures::stream::{self, BoxStream};
use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, LogParams};
use serde_json::json;

use super::{Sort, pods};
use crate::commands::reach::{Place, Reach, refused};
use crate::exit::{ExitStatus, Failure};
use crate::printer::{Output, Printer};

/// Arguments of `hzctl db logs` and `hzctl cache logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the database server or cache
    name: String,
    /// This copy; default: the one that takes writes
    #[arg(long, value_name = "POD")]
    member: Option<String>,
    /// All copies, with the pod's name before each line
    #[arg(long, conflicts_with = "member")]
    all: bool,
    /// Go on with what is written from now on
    #[arg(short = 'F', long)]
    follow: bool,
    /// Only this many lines from the end of each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    tail: Option<i64>,
    #[command(flatten)]
    reach: Reach,
}

/// A line of a pod, or that its log broke off.
type Line = (String, Result<String, io::Error>);

/// Run it.
pub async fn run(sort: &Sort, args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let place = sort.find(&client, args.reach.namespace.as_deref(), &args.name).await?;
    let pods = pods::of(&client, sort, &place).await?;
    let chosen: Vec<String> = match &args.member {
        _ if args.all => pods.iter().map(|pod| pod.name.clone()).collect(),
        Some(member) => vec![pods::member(&place.name, member, &pods)?.name.clone()],
        None => vec![pods::leader(sort, &place.name, &pods)?.name.clone()],
    };
    if chosen.is_empty() {
        return Err(Failure::input(format!("{} has no pods", place.name)).hint("is it suspended?"));
    }
    let params = LogParams {
        container: Some(sort.container.into()),
        follow: args.follow,
        tail_lines: args.tail,
        ..LogParams::default()
    };
    let mut logs = Vec::new();
    for pod in chosen {
        match open(&client, &place, &pod, &params).await {
            Ok(lines) => logs.push(lines),
            // A copy that has not begun yet has no log; the others do.
            Err(failure) if args.all => printer.warn(format!("{pod}: {}", failure.causes().join(": "))),
            Err(failure) => return Err(failure),
        }
    }
    // What goes on is told as it comes, what has been is told copy by copy.
    let lines = if args.follow { stream::select_all(logs).boxed() } else { stream::iter(logs).flatten().boxed() };
    print(lines, args.all, printer).await
}

async fn open(
    client: &Client,
    place: &Place,
    pod: &str,
    params: &LogParams,
) -> Result<BoxStream<'static, Line>, Failure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &place.namespace);
    let log = pods.log_stream(pod, params).await;
    let log = log.map_err(|error| refused(format!("failed to read the log of {pod}"), &error))?;
    let pod = pod.to_owned();
    Ok(lines(log).map(move |line| (pod.clone(), line)).boxed())
}

/// Lines of a log, also of one that holds more than text.
fn lines(log: impl AsyncBufRead + Send + 'static) -> BoxStream<'static, Result<String, io::Error>> {
    stream::unfold(Some(Box::pin(log)), |log| async {
        let mut log = log?;
        let mut line = Vec::new();
        match log.read_until(b'\n', &mut line).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()), Some(log))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

async fn print(mut lines: BoxStream<'_, Line>, all: bool, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let mut broken = None;
    while let Some((pod, line)) = lines.next().await {
        match line {
            Ok(line) => {
                let text = format!("{}\n", shown(printer.output(), &pod, &line, all)?);
                if !printer.bytes(text.as_bytes())? {
                    return Ok(ExitStatus::Success);
                }
            }
            Err(error) => {
                broken =
                    Some(Failure::new(ExitStatus::HostFailed, format!("the log of {pod} broke off")).because(error))
            }
        }
    }
    broken.map_or(Ok(ExitStatus::Success), Err)
}

/// A line as it is printed: text, an object a line, or an item of a list.
fn shown(output: Output, pod: &str, line: &str, all: bool) -> Result<String, Failure> {
    Ok(match output {
        Output::Table if all => format!("{pod}  {line}"),
        Output::Table => line.to_owned(),
        Output::Json => json!({ "pod": pod, "line": line }).to_string(),
        Output::Yaml => crate::cluster::yaml::write(&[json!({ "pod": pod, "line": line })])?.trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_copies_say_whose_they_are() {
        assert_eq!(shown(Output::Table, "records-1", "LOG: ready", true).unwrap(), "records-1  LOG: ready");
        assert_eq!(shown(Output::Table, "records-1", "LOG: ready", false).unwrap(), "LOG: ready");
        let json = shown(Output::Json, "records-1", "a \"b\"", false).unwrap();
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read, serde_json::json!({ "pod": "records-1", "line": "a \"b\"" }));
    }

    #[tokio::test]
    async fn a_log_that_is_no_text_is_shown_all_the_same() {
        let log = futures::io::Cursor::new(b"one\r\n\xff two\nrest".to_vec());
        let read: Vec<String> = lines(log).map(Result::unwrap).collect().await;
        assert_eq!(read, ["one", "\u{fffd} two", "rest"]);
    }
}
