//! `hzctl bundle build`: arguments, and how far it is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hz_bundle::SigningKey;
use hz_bundle::build::{self, Built, Cache, Event, From, Registries};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{show, told};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;
use crate::progress::{Plan, Planned, Progress, Step};

/// Name under which the work on the archive as a whole is shown.
const ARCHIVE: &str = "bundle";

/// Arguments of `hzctl bundle build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where components come from
    #[arg(long, value_enum, default_value_t = Source::Registries, value_name = "SOURCE")]
    from: Source,

    /// Archive to write [default: dist/hz-bundle-<version>-amd64.tar in the source tree]
    #[arg(short, long, value_name = "PATH", visible_alias = "to")]
    archive: Option<PathBuf>,

    /// Source tree with bundle/components.yaml [default: the one around the current folder]
    #[arg(long, value_name = "PATH")]
    source: Option<PathBuf>,

    /// Component list [default: bundle/components.yaml in the source tree]
    #[arg(long, value_name = "PATH")]
    components: Option<PathBuf>,

    /// Where made components and downloads are kept [default: ~/.cache/hzctl]
    #[arg(long, value_name = "PATH", env = "HZCTL_CACHE")]
    cache: Option<PathBuf>,

    /// minisign secret key without a password; made at the first build [default: ~/.config/hzctl/bundle.key]
    #[arg(long, value_name = "PATH", env = "HZCTL_BUNDLE_KEY")]
    key: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Source {
    /// Built from package registries alone
    Registries,
    /// Downloaded as upstream publishes them; our own are built
    Official,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let root = source_root(args.source.as_deref())?;
    let key_path = args.key.unwrap_or_else(SigningKey::default_path);
    let (key, created) = SigningKey::load_or_create(&key_path).map_err(told)?;
    if created {
        printer.say(format!("made a signing key: {} (keep it; hosts trust what it signs)", key_path.display()));
    }
    let list = args.components.unwrap_or_else(|| root.join("bundle/components.yaml"));
    let output = args.archive.unwrap_or_else(|| default_archive(&root));
    let cache = args.cache.unwrap_or_else(Cache::default_root);
    let from = match args.from {
        Source::Registries => From::Registries,
        Source::Official => From::Official,
    };
    let (tells, news) = tokio::sync::mpsc::unbounded_channel();
    let work = tokio::task::spawn_blocking(move || {
        let options = build::Options {
            list,
            repo: root,
            cache,
            output,
            version: env!("CARGO_PKG_VERSION").into(),
            from,
            key: &key,
            recipes: &Registries,
        };
        build::build(&options, &|event| {
            if let Some(news) = News::of(&event) {
                let _ = tells.send(news); // nobody listens any more: the person pressed Ctrl-C
            }
        })
    });
    let telling = tell(printer, news).await;
    let result = work.await.map_err(|error| Failure::fault("the build was cut off").because(error))?;
    if let Some(telling) = telling {
        telling.end(result.is_ok());
    }
    let built = result.map_err(told)?;
    printer.value(&built, table)?;
    Ok(ExitStatus::Success)
}

fn table(built: &Built) -> String {
    let what = match (built.unchanged, built.made.len()) {
        (true, _) => "unchanged".to_owned(),
        (false, 0) => "written".to_owned(),
        (false, n) => format!("written, {n} of its parts made now"),
    };
    format!(
        "{} {what}: {} components, {}, {:.1} s\nsigned by key {} ({})",
        built.path.display(),
        built.components,
        show::bytes(built.size),
        built.seconds,
        built.key_id,
        built.public_key.display(),
    )
}

/// The source tree: the one named, or the nearest above the current folder with a component list.
pub fn source_root(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let has_list = |folder: &Path| folder.join("bundle/components.yaml").is_file();
    if let Some(named) = named {
        return std::fs::canonicalize(named).map_err(|error| {
            Failure::input(format!("cannot open the source tree {}", named.display())).because(error)
        });
    }
    let here =
        std::env::current_dir().map_err(|error| Failure::fault("failed to find the current folder").because(error))?;
    here.ancestors().find(|folder| has_list(folder)).map(Path::to_path_buf).ok_or_else(|| {
        Failure::input("there is no bundle/components.yaml here or above")
            .hint("run it inside the source tree of the hospital cloud, or name the tree: --source PATH")
    })
}

/// Where a build writes by default.
pub fn default_archive(root: &Path) -> PathBuf {
    let path = root.join(format!("dist/hz-bundle-{}-amd64.tar", env!("CARGO_PKG_VERSION")));
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).map(Path::to_path_buf).unwrap_or(path)
}

/// What the builder's threads tell the one that talks.
enum News {
    Plan(Vec<Planned>),
    Started(String, &'static str),
    Finished(String),
    Note(String),
    Archive(&'static str, u64, u64),
}

impl News {
    fn of(event: &Event<'_>) -> Option<Self> {
        Some(match *event {
            Event::Waiting => News::Note("another build is running; waiting for it".into()),
            Event::Plan { to_make, .. } => News::Plan(planned(to_make)),
            Event::Start { component, lane } => News::Started(component.into(), lane),
            Event::Finish { component, cached: false, .. } => News::Finished(component.into()),
            Event::Finish { .. } => return None,
            Event::Evicted { component, reason } => {
                News::Note(format!("the cached {component} cannot be used ({reason}); making it again"))
            }
            Event::Check { done, total } => News::Archive("check", done, total),
            Event::Write { done, total } => News::Archive("write", done, total),
            Event::Log { component, line } => {
                tracing::info!(component, "{line}");
                return None;
            }
        })
    }
}

fn planned(to_make: &[build::ToMake]) -> Vec<Planned> {
    let mut steps: Vec<_> =
        to_make.iter().map(|c| Planned::new(c.lane, c.component.clone(), "make", c.expected)).collect();
    if !steps.is_empty() {
        steps.push(Planned::new(ARCHIVE, ARCHIVE, "write", Duration::from_secs(3)));
    }
    steps
}

/// Tells of a build until its threads are done; gives back what to end.
async fn tell(printer: &Printer, mut news: UnboundedReceiver<News>) -> Option<Telling> {
    let mut telling: Option<Telling> = None;
    while let Some(mut news) = news.recv().await {
        if let (None, News::Note(text)) = (&telling, &news) {
            printer.screen().say(text);
            continue;
        }
        let plan = match &mut news {
            News::Plan(steps) => std::mem::take(steps),
            _ => Vec::new(),
        };
        let telling = telling.get_or_insert_with(|| Telling {
            // Two lanes work side by side, so all of it takes about as long as the longer one.
            progress: Progress::start(printer, Plan { expected: longest_lane(&plan), steps: plan }),
            steps: HashMap::new(),
        });
        telling.hear(news);
    }
    telling
}

fn longest_lane(steps: &[Planned]) -> Option<Duration> {
    let mut lanes: HashMap<&str, Duration> = HashMap::new();
    for step in steps {
        *lanes.entry(&step.host).or_default() += step.expected;
    }
    lanes.into_values().max()
}

struct Telling {
    progress: Progress,
    steps: HashMap<String, Step>,
}

impl Telling {
    fn hear(&mut self, news: News) {
        match news {
            News::Plan(_) => {}
            News::Started(component, lane) => {
                let step = self.progress.step(lane, component.clone(), "make");
                self.steps.insert(component, step);
            }
            News::Finished(component) => {
                if let Some(step) = self.steps.remove(&component) {
                    step.finish(true);
                }
            }
            News::Note(text) => self.progress.note(text),
            News::Archive(what, done, total) => {
                let progress = self.progress.clone();
                let step = self.steps.entry(what.into()).or_insert_with(|| progress.step(ARCHIVE, ARCHIVE, what));
                step.at(fraction(done, total), Some(done));
                if done == total
                    && let Some(step) = self.steps.remove(what)
                {
                    step.finish(what == "write");
                }
            }
        }
    }

    fn end(mut self, succeeded: bool) {
        self.steps.clear();
        self.progress.finish(succeeded);
    }
}

/// The bar of one long step, moved by any thread.
pub struct Bar {
    progress: Progress,
    step: Step,
}

impl Bar {
    /// Begin.
    pub fn start(printer: &Printer, what: &str) -> Self {
        let plan = Plan::new(vec![Planned::new(ARCHIVE, ARCHIVE, what, Duration::from_secs(3))]);
        let progress = Progress::start(printer, plan);
        let step = progress.step(ARCHIVE, ARCHIVE, what);
        Bar { progress, step }
    }

    /// So many bytes of so many are done.
    pub fn at(&self, done: u64, total: u64) {
        self.step.at(fraction(done, total), Some(done));
    }

    /// It is over.
    pub fn finish(self, succeeded: bool) {
        if succeeded {
            self.step.finish(false);
        } else {
            drop(self.step);
        }
        self.progress.finish(succeeded);
    }
}

#[allow(clippy::cast_precision_loss)] // a bar has a hundred places
fn fraction(done: u64, total: u64) -> f64 {
    if total == 0 { 1.0 } else { done as f64 / total as f64 }
}
