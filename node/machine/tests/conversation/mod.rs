//! Runs the lines of a script on a machine.

mod message;
mod talk;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use goldenscript::{Argument, Command, Context, Runner};
use multiraft_machine::{
    Answer, Body, Effect, List, Machine, Output, Query, Restore, Status, Waiter,
};
use multiraft_proto::log::{Cancel, LogEntry, LogItem, Tick, log_item};
use multiraft_proto::rpc::{Kind, RPCS, Rpc};
use multiraft_proto::v1::partition_input::Payload;
use multiraft_proto::v1::{
    CloseServiceInput, CloseSessionInput, CreateServiceInput, DestroyPrimitiveInput,
    ExpireSessionInput, KeepAliveInput, OpenSessionInput, PartitionInput, Quota, ServiceInput,
    SessionInput, SetQuotaInput, session_input,
};
use prost::Message;

const TERM: u64 = 1;
const ORIGIN: u64 = 1;

pub struct Conversation {
    machine: Machine,
    log_time: u64,
    /// Who → the session's id and the number of its last command.
    sessions: BTreeMap<String, (u64, u64)>,
    primitives: BTreeMap<String, u64>,
    /// By the number of the call: who asked, for what, and the command's number.
    asked: BTreeMap<u64, (String, Option<&'static Rpc>, u64)>,
    calls: u64,
}

impl Runner for Conversation {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let effects = match &context.prefix {
            Some(who) if who == "admin" && command.name == "list" => return self.inspect(command),
            Some(who) if who == "admin" => self.administer(command)?,
            Some(who) => self.say(who, command)?,
            None => self.pass(command)?,
        };
        let mut text = String::new();
        for effect in effects {
            writeln!(text, "{}", self.read(effect))?;
        }
        Ok(text)
    }
}

impl Conversation {
    pub fn new() -> Self {
        Self {
            machine: Machine::new(),
            log_time: 1_000_000,
            sessions: BTreeMap::new(),
            primitives: BTreeMap::new(),
            asked: BTreeMap::new(),
            calls: 0,
        }
    }

    fn pass(&mut self, command: &Command) -> Result<Vec<Effect>, Box<dyn Error>> {
        if command.name != "after" {
            return Err(format!("{}: nobody says it", command.name).into());
        }
        let (seconds, nanos) = message::duration(words(command).next().ok_or("after: a time")?)?;
        self.log_time += seconds as u64 * 1_000 + nanos as u64 / 1_000_000;
        Ok(self.apply(0, log_item::Item::Tick(Tick {})))
    }

    fn administer(&mut self, command: &Command) -> Result<Vec<Effect>, Box<dyn Error>> {
        let word = || words(command).next().ok_or_else(|| format!("{}: of what?", command.name));
        let payload = match command.name.as_str() {
            "quota" => {
                let quota = message::encode_core("Quota", &command.args)?;
                Payload::SetQuota(SetQuotaInput { quota: Some(Quota::decode(quota)?) })
            }
            "destroy" => {
                let primitive_id = self.primitive(word()?)?;
                Payload::DestroyPrimitive(DestroyPrimitiveInput { primitive_id })
            }
            "expire" => {
                let (session_id, _) = self.session(word()?)?;
                Payload::ExpireSession(ExpireSessionInput { session_id })
            }
            other => return Err(format!("{other}: is not understood").into()),
        };
        Ok(self.ask("admin", None, 0, payload))
    }

    fn inspect(&self, command: &Command) -> Result<String, Box<dyn Error>> {
        let (list, request) = match words(command).next() {
            Some("sessions") => (List::Sessions, "ListSessions"),
            Some("primitives") => (List::Primitives, "ListPrimitives"),
            Some("quotas") => (List::Quotas, "GetQuotas"),
            _ => return Err("list: of what?".into()),
        };
        let fields = message::encode_core(&format!("{request}Request"), &command.args[1..])?;
        let query = Query { input: fields, ..list.query(&()) };
        let answer = self.machine.query(&query);
        let Ok(Output::Operation { body: Body::Payload(output), .. }) = answer.result else {
            return Err(format!("{answer:?}").into());
        };
        let (items, more) = message::read_list(&format!("{request}Response"), output);
        Ok(items.join("\n") + if more { "\nmore\n" } else { "\n" })
    }

    fn say(&mut self, who: &str, command: &Command) -> Result<Vec<Effect>, Box<dyn Error>> {
        if let Some((primitive, method)) = command.name.split_once('.') {
            return self.operate(who, primitive, method, &command.args);
        }
        let mut words = words(command);
        if command.name == "open" {
            let mut input = OpenSessionInput::default();
            if let Some(timeout) = words.next() {
                input.timeout.get_or_insert_default().seconds = message::duration(timeout)?.0;
            }
            return Ok(self.ask(who, None, 0, Payload::OpenSession(input)));
        }
        let (session_id, last) = self.session(who)?;
        let mut word = || words.next().ok_or_else(|| format!("{}: too short", command.name));
        let payload = match command.name.as_str() {
            "create" => {
                let name = word()?.to_owned();
                let service = rpc(&name, None)?.primitive.to_owned();
                let namespace = words.next().unwrap_or_default().to_owned();
                let input = CreateServiceInput { service, namespace, name };
                return self.command(who, None, session_input::Payload::CreateService(input));
            }
            "close" => {
                let service_id = self.primitive(word()?)?;
                let input = CloseServiceInput { service_id };
                return self.command(who, None, session_input::Payload::CloseService(input));
            }
            "keep" => Payload::KeepAlive(KeepAliveInput {
                session_id,
                last_command_sequence_num: last,
                exact: true,
                open_sequence_nums: words.map(str::parse).collect::<Result<_, _>>()?,
                ..Default::default()
            }),
            "cancel" => {
                let sequence_num = word()?.parse()?;
                let own = |(_, asked): &(&u64, &(String, _, u64))| {
                    asked.0 == who && asked.2 == sequence_num
                };
                let (number, _) = self.asked.iter().find(own).ok_or("cancel: no such command")?;
                let cancel = Cancel { session_id, sequence_num };
                return Ok(self.apply(*number, log_item::Item::Cancel(cancel)));
            }
            "end" => Payload::CloseSession(CloseSessionInput { session_id }),
            other => return Err(format!("{other}: is not understood").into()),
        };
        Ok(self.ask(who, None, 0, payload))
    }

    fn operate(
        &mut self,
        who: &str,
        primitive: &str,
        method: &str,
        fields: &[Argument],
    ) -> Result<Vec<Effect>, Box<dyn Error>> {
        let rpc = rpc(primitive, Some(method))?;
        let payload = message::encode(rpc, fields)?;
        let (service_id, operation) = (self.primitive(primitive)?, rpc.operation);
        if rpc.kind == Kind::Command {
            let input = ServiceInput { service_id, operation, payload };
            return self.command(who, Some(rpc), session_input::Payload::ServiceInput(input));
        }
        let (session_id, _) = self.session(who)?;
        let query = Query {
            session_id,
            primitive_id: service_id,
            operation,
            input: payload,
            sequence_num: 0,
        };
        self.calls += 1;
        self.asked.insert(self.calls, (who.to_owned(), Some(rpc), 0));
        let answers = match rpc.streaming {
            true => self.list(&query),
            false => vec![self.machine.query(&query)],
        };
        let (origin, number) = (ORIGIN, self.calls);
        Ok(answers.into_iter().map(|answer| Effect::Answer { origin, number, answer }).collect())
    }

    /// The outputs of a streaming query as if each were an answer; later ones may follow.
    fn list(&mut self, query: &Query) -> Vec<Answer> {
        let outputs: Vec<Bytes> = match self.machine.list(query) {
            Ok(outputs) => outputs.collect(),
            Err(answer) => return vec![answer],
        };
        let waiter = Waiter { origin: ORIGIN, number: self.calls };
        self.machine.watch(query, waiter).unwrap();
        let (index, status, message) = (self.machine.index(), Status::Ok, String::new());
        let answer = |output| {
            let (message, body) = (message.clone(), Body::Payload(output));
            let output = Output::Operation { sequence: 0, status, message, body, last: false };
            Answer { index, result: Ok(output) }
        };
        outputs.into_iter().map(answer).collect()
    }

    fn is_for_a_query(&self, effect: &Effect) -> bool {
        let Effect::Answer { number, .. } = effect else { return false };
        self.asked[number].1.is_some_and(|rpc| rpc.kind == Kind::Query)
    }

    fn command(
        &mut self,
        who: &str,
        rpc: Option<&'static Rpc>,
        payload: session_input::Payload,
    ) -> Result<Vec<Effect>, Box<dyn Error>> {
        let (session_id, last) = self.session(who)?;
        let sequence_num = last + 1;
        self.sessions.insert(who.to_owned(), (session_id, sequence_num));
        let input = SessionInput { session_id, sequence_num, payload: Some(payload) };
        Ok(self.ask(who, rpc, sequence_num, Payload::SessionInput(input)))
    }

    fn ask(
        &mut self,
        who: &str,
        rpc: Option<&'static Rpc>,
        sequence_num: u64,
        payload: Payload,
    ) -> Vec<Effect> {
        self.calls += 1;
        self.asked.insert(self.calls, (who.to_owned(), rpc, sequence_num));
        let input = PartitionInput { payload: Some(payload) }.encode_to_vec();
        self.apply(self.calls, log_item::Item::Input(input.into()))
    }

    /// Applies one item, to the machine and to its copy by snapshot.
    fn apply(&mut self, number: u64, item: log_item::Item) -> Vec<Effect> {
        let items = vec![LogItem { origin: ORIGIN, number, item: Some(item) }];
        let (term, log_time) = (TERM, self.log_time);
        let entry = LogEntry { format: 1, feature_level: 1, term, log_time, items };
        let entry: Bytes = entry.encode_to_vec().into();
        let before = self.machine.primitives_digest();
        let [there, mut here] = [&mut copy(&self.machine), &mut self.machine].map(|machine| {
            let mut effects = Vec::new();
            machine.apply(TERM, &entry, &mut effects).unwrap();
            (effects, machine.digest())
        });
        // Who watches does so on one machine, and changes nothing.
        let everything = here.clone();
        here.0.retain(|effect| !self.is_for_a_query(effect));
        assert_eq!(there, here, "the machine goes on otherwise after a snapshot");
        let (effects, _) = everything;
        if effects.iter().any(|effect| is_refused(effect, number)) {
            assert_eq!(self.machine.primitives_digest(), before, "refused, but not undone");
        }
        effects.into_iter().filter(|effect| !is_note(effect)).collect()
    }

    /// An effect in words.
    fn read(&mut self, effect: Effect) -> String {
        let (number, answer) = match effect {
            Effect::Answer { number, answer, .. } => (number, answer),
            Effect::Begins { .. } | Effect::Replaced { .. } => return String::new(),
            Effect::SessionEnded { session_id, expired } => {
                let is_ended = |(_, session): &(&String, &(u64, u64))| session.0 == session_id;
                let who = self.sessions.iter().find(is_ended).map(|(who, _)| who.clone());
                let who = who.unwrap_or_else(|| session_id.to_string());
                return format!("{who} {}", if expired { "expired" } else { "ended" });
            }
        };
        let (who, rpc, sequence_num) = self.asked[&number].clone();
        let Answer { index, result } = answer;
        let output = match result {
            Err(rejection) => return format!("{who} {sequence_num} @{index}: {rejection}"),
            Ok(output) => output,
        };
        let (sequence, status, message, body) = match output {
            Output::SessionOpened { session_id } => {
                self.sessions.insert(who.clone(), (session_id, 0));
                return format!("{who} @{index}: open");
            }
            Output::SessionKept => return format!("{who} @{index}: kept"),
            Output::SessionClosed => return format!("{who} @{index}: closed"),
            Output::Operation { sequence, status, message, body, .. } => {
                (sequence, status, message, body)
            }
        };
        let method = rpc.map_or("", |rpc| rpc.method);
        let to = match (sequence_num, sequence) {
            (0, _) if rpc.is_none() => format!("{who} @{index}"),
            (0, _) => format!("{who} {method} @{index}"),
            (command, 0) => format!("{who} {command} @{index}"),
            (command, output) => format!("{who} {command}.{output} {method} @{index}"),
        };
        if status != Status::Ok {
            return format!("{to}: {} {message}", status.as_str_name());
        }
        match (body, rpc) {
            (Body::PrimitiveCreated { primitive_id }, _) => {
                let name = self.machine.primitives().find(|one| one.primitive_id == primitive_id);
                self.primitives.insert(name.unwrap().name, primitive_id);
                format!("{to}: created")
            }
            (Body::Payload(output), Some(rpc)) => format!("{to}: {}", message::read(rpc, output)),
            (Body::None, _) => format!("{to}: done"),
            (Body::PrimitiveClosed | Body::Payload(_), _) => format!("{to}: closed"),
        }
    }

    fn session(&self, who: &str) -> Result<(u64, u64), String> {
        self.sessions.get(who).copied().ok_or_else(|| format!("{who} has no session"))
    }

    fn primitive(&self, name: &str) -> Result<u64, String> {
        self.primitives.get(name).copied().ok_or_else(|| format!("{name} is not created"))
    }
}

fn words(command: &Command) -> impl Iterator<Item = &str> {
    command.args.iter().filter_map(|argument| match argument {
        Argument::Positional(word) => Some(word.as_str()),
        _ => None,
    })
}

/// An operation of the primitive whose package has this name, or any of them.
fn rpc(primitive: &str, method: Option<&str>) -> Result<&'static Rpc, String> {
    let package = format!("/atomix.multiraft.{primitive}.v1.");
    let is_meant = |rpc: &&Rpc| method.is_none_or(|method| rpc.method == method);
    let mut rpcs = RPCS.iter().filter(|rpc| rpc.path.starts_with(&package));
    rpcs.find(is_meant).ok_or_else(|| format!("{primitive}.{method:?}: no such operation"))
}

fn copy(machine: &Machine) -> Machine {
    let mut restore = Restore::new();
    machine.snapshot().for_each(|chunk| restore.push(chunk).unwrap());
    let copy = restore.finish().unwrap();
    assert_eq!(copy.digest(), machine.digest());
    copy
}

/// It says where answers go, and nothing to a client.
fn is_note(effect: &Effect) -> bool {
    matches!(effect, Effect::Begins { .. } | Effect::Replaced { .. })
}

fn is_refused(effect: &Effect, call: u64) -> bool {
    let Effect::Answer { number, answer, .. } = effect else { return false };
    let refused = match &answer.result {
        Ok(Output::Operation { status, .. }) => *status != Status::Ok,
        _ => false,
    };
    // A command that waited is refused by what others do.
    *number == call && refused
}
