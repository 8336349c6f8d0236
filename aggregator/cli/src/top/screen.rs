//! The full-screen view of `top --watch`. [`View`] is pure: keys and answers in, a frame out.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{List, ListState, Paragraph};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::rows::{self, Row, Shape};
use super::{fetch, order, rows as rows_of, shape};
use crate::args::{SortBy, TopArgs};
use crate::output::{Failure, Output};
use crate::table::{Line, Tone};
use crate::{Connection, clock, text};

/// Keys that may wait.
const KEYS_MAX: usize = 64;
/// How long a read of keys waits: the end of the program waits as long.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Longest filter, in characters.
const FILTER_MAX: usize = 100;
/// The orders through which `s` goes.
const ORDERS: [(SortBy, &str); 9] = [
    (SortBy::Requests, "requests"),
    (SortBy::Attempts, "attempts"),
    (SortBy::Inflight, "in flight"),
    (SortBy::Errors, "errors"),
    (SortBy::Skew, "skew"),
    (SortBy::Window, "window"),
    (SortBy::Age, "age"),
    (SortBy::State, "state"),
    (SortBy::Name, "name"),
];

/// What is on the screen.
#[derive(Debug)]
pub(super) struct View {
    title: String,
    shape: Shape,
    order: usize,
    rows: Vec<Row>,
    filter: String,
    is_typing: bool,
    selected: usize,
    /// Time of the newest answer.
    time: String,
    /// Why there is none newer.
    error: String,
    colors: bool,
}

/// Shows it until `q`.
pub(super) async fn run(
    connection: &Connection,
    args: &TopArgs,
    output: Output,
) -> Result<ExitCode, Failure> {
    let mut view = View::new(connection, args, output.colors);
    view.answered(answer(connection, args).await?, &time());
    let (sender, mut keys) = mpsc::channel(KEYS_MAX);
    let stop = Arc::new(AtomicBool::new(false));
    // Restores the terminal on a panic as well.
    let mut terminal = ratatui::try_init().map_err(|error| Failure::new(&error))?;
    let reader = tokio::task::spawn_blocking({
        let stop = Arc::clone(&stop);
        move || read_keys(&sender, &stop)
    });
    let mut ticks = interval(Duration::from_secs(args.interval));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let mut asking: Option<JoinHandle<_>> = None;
    let outcome = loop {
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            break Err(Failure::new(&error));
        }
        tokio::select! {
            key = keys.recv() => match key {
                Some(key) if view.key(key) => {}
                _ => break Ok(ExitCode::SUCCESS),
            },
            // Beside the keys: an answer may take its time.
            _ = ticks.tick(), if asking.is_none() => {
                let (connection, args) = (connection.clone(), args.clone());
                asking = Some(tokio::spawn(async move { answer(&connection, &args).await }));
            }
            answered = ended(&mut asking) => {
                asking = None;
                match answered {
                    Ok(rows) => view.answered(rows, &time()),
                    Err(failure) => view.error = failure.message,
                }
            }
        }
    };
    if let Some(asking) = asking {
        asking.abort();
    }
    stop.store(true, Ordering::Relaxed);
    ratatui::restore();
    let _ = reader.await;
    outcome
}

async fn answer(connection: &Connection, args: &TopArgs) -> Result<Vec<Row>, Failure> {
    rows_of(&fetch(connection, args, true).await?, args)
}

/// What was asked for, once it is there; never if nothing was.
async fn ended(
    asking: &mut Option<JoinHandle<Result<Vec<Row>, Failure>>>,
) -> Result<Vec<Row>, Failure> {
    match asking {
        Some(asking) => asking
            .await
            .unwrap_or_else(|error| Err(Failure::new(&error))),
        None => std::future::pending().await,
    }
}

fn time() -> String {
    let clock = clock::read();
    clock.time_of_day(clock.unix_ms())
}

/// Sends keys, and a change of the terminal's size as a key that means nothing.
fn read_keys(sender: &mpsc::Sender<KeyEvent>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let event = match event::poll(KEY_WAIT) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let key = match event {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => key,
            Ok(Event::Resize(_, _)) => KeyEvent::new(KeyCode::Null, KeyModifiers::NONE),
            Ok(_) => continue,
            // The terminal is gone.
            Err(_) => return,
        };
        if sender.blocking_send(key).is_err() {
            return;
        }
    }
}

// === impl View ===

impl View {
    fn new(connection: &Connection, args: &TopArgs, colors: bool) -> Self {
        let shape = shape(args, true);
        let within = match connection.namespace() {
            _ if args.all_namespaces => "all namespaces".to_owned(),
            _ if shape.kind == crate::args::TopKind::Namespaces => "the cluster".to_owned(),
            namespace => format!("namespace {namespace}"),
        };
        let title = format!("{} of {within}", args.kind.resource());
        Self::of(title, shape, args.sort_by, colors)
    }

    fn of(title: String, shape: Shape, by: SortBy, colors: bool) -> Self {
        let order = ORDERS.iter().position(|(order, _)| *order == by);
        Self {
            title,
            shape,
            order: order.unwrap_or(0),
            rows: Vec::new(),
            filter: String::new(),
            is_typing: false,
            selected: 0,
            time: String::new(),
            error: String::new(),
            colors,
        }
    }

    /// Takes an answer.
    fn answered(&mut self, rows: Vec<Row>, time: &str) {
        self.rows = rows;
        self.error.clear();
        time.clone_into(&mut self.time);
        self.sort();
    }

    fn sort(&mut self) {
        order::sort(&mut self.rows, ORDERS[self.order].0);
    }

    /// Takes a key; false if it ends the view.
    fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return !matches!(key.code, KeyCode::Char('c' | 'd'));
        }
        if self.is_typing {
            match key.code {
                KeyCode::Enter => self.is_typing = false,
                KeyCode::Esc => {
                    self.is_typing = false;
                    self.filter.clear();
                }
                KeyCode::Backspace => {
                    self.filter.pop();
                }
                KeyCode::Char(character) if self.filter.chars().count() < FILTER_MAX => {
                    self.filter.push(character);
                }
                _ => {}
            }
            self.selected = 0;
            return true;
        }
        match key.code {
            KeyCode::Char('q') => return false,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('s') => {
                self.order = (self.order + 1) % ORDERS.len();
                self.sort();
            }
            KeyCode::Char('S') => {
                self.order = (self.order + ORDERS.len() - 1) % ORDERS.len();
                self.sort();
            }
            KeyCode::Down | KeyCode::Char('j') => self.selected = self.selected.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::PageDown => self.selected = self.selected.saturating_add(20),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(20),
            KeyCode::Home | KeyCode::Char('g') => self.selected = 0,
            KeyCode::End | KeyCode::Char('G') => self.selected = usize::MAX,
            _ => {}
        }
        true
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
        ]);
        let [head, columns, body, foot] = areas.areas(frame.area());
        let shown: Vec<Row> = self
            .rows
            .iter()
            .filter(|row| row.key().contains(&self.filter))
            .cloned()
            .collect();
        self.selected = self.selected.min(shown.len().saturating_sub(1));
        let room = usize::from(body.width);
        let mut lines = rows::table(&shown, self.shape).lines(Some(room));
        let heading = self.text(&lines.remove(0));
        let title = format!(
            "{} · {} of {} · by {} · {}",
            self.title,
            shown.len(),
            self.rows.len(),
            ORDERS[self.order].1,
            self.time
        );
        frame.render_widget(Paragraph::new(title), head);
        frame.render_widget(Paragraph::new(heading), columns);
        let list = List::new(lines.iter().map(|line| self.text(line)))
            .highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = ListState::default().with_selected(Some(self.selected));
        frame.render_stateful_widget(list, body, &mut state);
        frame.render_widget(self.foot(), foot);
    }

    fn foot(&self) -> Paragraph<'static> {
        if !self.error.is_empty() {
            let style = self.style(Tone::Bad);
            return Paragraph::new(text::shown(&self.error).into_owned()).style(style);
        }
        let filter = text::shown(&self.filter);
        let foot = match (self.is_typing, self.filter.is_empty()) {
            (true, _) => format!("filter: {filter}_  (Enter keeps it, Esc drops it)"),
            (false, true) => "↑↓ move  s sort  / filter  q quit".to_owned(),
            (false, false) => format!("filter: {filter}  (Esc drops it)  ↑↓ move  s sort  q quit"),
        };
        Paragraph::new(foot).style(self.style(Tone::Faint))
    }

    fn text(&self, line: &Line) -> Text<'static> {
        let parts = line
            .iter()
            .map(|part| Span::styled(part.text.clone(), self.style(part.tone)));
        parts.collect()
    }

    fn style(&self, tone: Tone) -> Style {
        let plain = Style::new();
        match tone {
            Tone::Heading => plain.add_modifier(Modifier::BOLD),
            _ if !self.colors => plain,
            Tone::Plain => plain,
            Tone::Good => plain.fg(Color::Green),
            Tone::Warning => plain.fg(Color::Yellow),
            Tone::Bad => plain.fg(Color::Red),
            Tone::Faint => plain.add_modifier(Modifier::DIM),
        }
    }
}

#[cfg(test)]
mod tests;
