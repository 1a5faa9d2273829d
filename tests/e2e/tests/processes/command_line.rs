//! `multiraft` as people and scripts use it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use multiraft_e2e::nodes;

/// `multiraft dev`, asked to stop at the end of the test.
struct Dev {
    process: Child,
    endpoints: String,
    data: PathBuf,
}

impl Dev {
    fn start() -> Self {
        let port = nodes::port_block();
        let mut process = Command::new(nodes::program("multiraft"))
            .args(["dev", "--groups", "4", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output = process.stdout.take().expect("piped");
        let lines: Vec<String> =
            BufReader::new(output).lines().map_while(Result::ok).take(6).collect();
        let after = |text: &str| {
            let line = lines.iter().find_map(|line| line.split_once(text));
            line.unwrap_or_else(|| panic!("no {text:?} in {lines:?}")).1.to_owned()
        };
        let (endpoints, data) = (after("MULTIRAFT_ENDPOINTS="), after("data and logs in ").into());
        Self { process, endpoints, data }
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(nodes::program("multiraft"))
            .args(arguments.split(' '))
            .env("MULTIRAFT_ENDPOINTS", &self.endpoints)
            .output()
            .expect("the program starts")
    }

    /// A command that goes on beside the test.
    fn start_command(&self, arguments: &str) -> Child {
        Command::new(nodes::program("multiraft"))
            .args(arguments.split(' '))
            .env("MULTIRAFT_ENDPOINTS", &self.endpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// The first line of a command that does not end by itself.
    fn first_line(&self, arguments: &str) -> String {
        let mut process = self.start_command(arguments);
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        output.read_line(&mut line).expect("text");
        terminate(&process);
        assert!(process.wait().expect("it ends").success());
        line.trim_end().to_owned()
    }

    /// Exit code and standard output of a command that reads this.
    fn with_input(&self, arguments: &str, input: &str) -> (Option<i32>, String) {
        let mut process = self.start_command(arguments);
        let mut stdin = process.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        let output = process.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Standard output of a command that succeeds.
    fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }

    fn json(&self, arguments: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&format!("{arguments} -o json"))).expect("JSON")
    }

    /// Exit code and standard error of a command that does not.
    fn fails(&self, arguments: &str) -> (i32, String) {
        let output = self.run(arguments);
        let code = output.status.code().expect("it ends by itself");
        (code, String::from_utf8(output.stderr).expect("text").trim_end().to_owned())
    }

    fn send_interrupt(&self) -> bool {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-INT", &id]).status().expect("kill is there").success()
    }

    fn interrupt(mut self) {
        assert!(self.send_interrupt());
        let status = self.process.wait().expect("it can be waited for");
        assert!(status.success(), "{status}");
        assert!(!self.data.exists(), "{} is left", self.data.display());
        let error = self.fails("counter get visits --timeout 1s");
        assert_eq!(error.0, 3, "{}", error.1);
        assert!(error.1.contains("check the addresses and that the nodes run"), "{}", error.1);
    }
}

impl Drop for Dev {
    /// Also when the test fails, as it has processes of its own.
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.send_interrupt();
            let _ = self.process.wait();
        }
    }
}

#[test]
fn a_cluster_for_development_serves_commands_until_it_is_interrupted() {
    let dev = Dev::start();

    assert_eq!(dev.ok("counter get visits"), "0");
    assert_eq!(dev.ok("counter increment visits 5"), "5");
    assert_eq!(dev.ok("counter increment visits -7"), "-2");
    assert_eq!(dev.ok("counter decrement visits"), "-3");
    assert_eq!(dev.ok("counter set visits 9223372036854775807"), "9223372036854775807");
    let (code, error) = dev.fails("counter increment visits");
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("invalid"), "{error}");

    dev.ok("map put users ada analyst");
    assert_eq!(dev.ok("map get users ada"), "analyst");
    let json: serde_json::Value =
        serde_json::from_str(&dev.ok("map get users ada -o json")).expect("JSON");
    assert_eq!(json["value"], "analyst");
    let update = format!("map update users ada countess --if-version {}", json["version"]);
    dev.ok(&update);
    assert_eq!(dev.fails(&update).0, 1, "the version is another by now");
    assert_eq!(
        dev.fails("map insert users ada x"),
        (
            1,
            "error: already exists: key: has an entry; `multiraft map put` or `update` replaces it"
                .into()
        )
    );
    dev.ok("map insert users charles engineer --ttl 1h");
    assert_eq!(dev.ok("map size users"), "2");
    assert_eq!(dev.ok("map remove users ada"), "countess");
    assert_eq!(dev.fails("map get users ada"), (1, "error: key \"ada\" is not there".into()));
    dev.ok("map clear users");
    assert_eq!(dev.ok("map size users"), "0");

    primitives(&dev);
    streams(&dev);
    contents(&dev);

    let port = dev.endpoints.split([':', ',']).nth(1).expect("host:port,…");
    let (code, error) = dev.fails(&format!("dev --port {port}"));
    assert_eq!(code, 2);
    assert!(error.contains(&format!("port {port}: ")) && error.contains("--port"), "{error}");

    assert_eq!(dev.ok("node info").lines().count(), 1 + 3);
    assert_eq!(dev.ok("group list").lines().count(), 1 + 4);
    let json: serde_json::Value =
        serde_json::from_str(&dev.ok("group list --of visits -o json")).expect("JSON");
    let groups: Vec<_> = json.as_array().expect("a list").iter().map(|g| &g["group"]).collect();
    assert_eq!(groups, [multiraft_client::position(b"visits", 4) + 1]);
    administration(&dev);
    assert_eq!(dev.fails("counter increment visits many").0, 2);
    assert_eq!(dev.fails("counter get visits --endpoints nowhere").0, 2);
    dev.interrupt();
}

/// Each primitive as a script uses it.
fn primitives(dev: &Dev) {
    let json = |arguments: &str| dev.json(arguments);
    assert_eq!(dev.ok("counter update hits 0 3"), "3");
    assert!(dev.fails("counter update hits 0 3").1.contains("multiraft counter get"));

    assert_eq!(dev.ok("countermap set stock apples 7"), "0");
    assert_eq!(dev.ok("countermap increment stock apples 3"), "7");
    assert_eq!(dev.ok("countermap decrement stock apples"), "10");
    dev.ok("countermap update stock apples 9 -4");
    dev.ok("countermap insert stock pears 1");
    assert_eq!(dev.ok("countermap get stock apples"), "-4");
    assert_eq!(dev.ok("countermap size stock"), "2");
    assert_eq!(dev.fails("countermap remove stock apples 5").0, 1);
    dev.ok("countermap remove stock apples -4");
    assert_eq!(dev.ok("countermap hold stock pears -- echo held"), "held");
    dev.ok("countermap clear stock");

    assert_eq!(
        dev.ok("value set motd hello"),
        format!("version {}", json("value get motd")["version"])
    );
    let (code, error) = dev.fails("value update motd x --if-version 1");
    assert!(code == 1 && error.contains("multiraft value get -o json"), "{error}");
    dev.ok("value update motd bye --ttl 1h");
    assert_eq!(dev.ok("value delete motd"), "bye");
    assert_eq!(dev.fails("value get motd"), (1, "error: value \"motd\" is not there".into()));
    dev.ok("value insert motd again");

    assert_eq!(dev.ok("set add tags red"), "true");
    assert_eq!(dev.ok("set add tags red --ttl 1h"), "false");
    assert_eq!(dev.ok("set contains tags red"), "true");
    assert_eq!(dev.ok("set size tags"), "1");
    assert_eq!(dev.ok("set remove tags red"), "true");
    dev.ok("set clear tags");

    dev.ok("multimap put roles ada admin");
    assert_eq!(dev.ok("multimap put-all roles ada admin author"), "changed");
    assert_eq!(dev.ok("multimap put-entries roles ada=admin charles=author"), "changed");
    assert_eq!(dev.ok("multimap get roles ada"), "admin\nauthor");
    assert_eq!(dev.ok("multimap contains roles charles author --local"), "true");
    dev.ok("multimap remove roles ada admin");
    assert_eq!(dev.fails("multimap remove roles ada admin").0, 1);
    assert_eq!(dev.ok("multimap remove-all roles ada admin author"), "changed");
    assert_eq!(dev.ok("multimap remove-entries roles ada=author"), "unchanged");
    assert_eq!(dev.ok("multimap replace roles charles"), "author");
    assert_eq!(dev.ok("multimap size roles"), "0");
    dev.ok("multimap clear roles");

    assert_eq!(dev.ok("indexedmap append queue a first"), "1");
    assert_eq!(dev.ok("indexedmap append queue b second --ttl 1h"), "2");
    assert_eq!(dev.ok("indexedmap get queue b"), "2  b  second");
    dev.ok("indexedmap update queue --by-index 2 other");
    assert_eq!(json("indexedmap last queue")["value"], "other");
    assert_eq!(dev.ok("indexedmap first queue"), "1  a  first");
    assert_eq!(json("indexedmap after queue 1")["place"], 2);
    assert_eq!(json("indexedmap before queue 2")["key"], "a");
    assert_eq!(dev.ok("indexedmap remove queue a"), "first");
    assert_eq!(dev.fails("indexedmap before queue 2"), (1, "error: there is no such entry".into()));
    assert_eq!(dev.ok("indexedmap size queue"), "1");
    dev.ok("indexedmap clear queue");

    dev.ok("map transact users --put a=1 --insert b=2 --insert c=3 --put d=4");
    let (code, error) = dev.fails("map transact users --remove a --update b=x --insert d=5");
    assert!(code == 1 && error.contains("already exists"), "{error}");
    assert_eq!(dev.ok("map get users a"), "1");
    assert_eq!(dev.fails("map transact users").0, 2);
    assert_eq!(dev.ok("map hold users a b -- printenv MULTIRAFT_MAP"), "users");
    dev.ok("map clear users");

    assert_eq!(dev.ok("lock status backup"), "free");
    let token = dev.ok("lock hold backup -- printenv MULTIRAFT_FENCING_TOKEN");
    assert!(token.parse::<u64>().is_ok(), "{token}");
    assert_eq!(dev.run("lock hold backup -- sh -c exit\t7").status.code(), Some(7));
    assert_eq!(
        dev.run("lock hold backup --no-wait -- sh -c kill\t$$").status.code(),
        Some(128 + 15)
    );
    assert_eq!(dev.fails("lock hold backup").0, 2, "without a command");
    assert_eq!(dev.fails("lock hold backup -- /no/such/program").0, 2);
    // Held by another one until it is told to end.
    let mut holder = dev.start_command("lock hold backup -- sleep 600");
    eventually(|| dev.ok("lock status backup").starts_with("held, fencing token "));
    let (code, error) = dev.fails("lock hold backup --no-wait -- true");
    assert!(code == 1 && error.contains("--wait"), "{error}");
    assert_eq!(dev.fails("lock hold backup --wait 100ms -- true").0, 1);
    terminate(&holder);
    assert_eq!(holder.wait().expect("it ends").code(), Some(128 + 15));
    assert_eq!(dev.ok("lock status backup"), "free");

    let mut leader = dev.start_command("election campaign job --candidate a -- sleep 600");
    eventually(|| json("election show job")["leader"] == "a");
    let mut waiting = dev.start_command("election campaign job --candidate b");
    eventually(|| json("election show job")["queue"] == serde_json::json!(["b"]));
    assert_eq!(json("election promote job b")["leader"], "b");
    assert_eq!(leader.wait().expect("it ends").code(), Some(3), "another one leads");
    let mut said = String::new();
    let error = waiting.stderr.take().expect("piped");
    BufReader::new(error).read_line(&mut said).expect("it says when it leads");
    assert!(said.starts_with("b leads, term 2"), "{said}");
    terminate(&waiting);
    assert!(waiting.wait().expect("it ends").success());
    assert_eq!(json("election show job")["leader"], serde_json::Value::Null);
    for change in ["withdraw", "anoint", "demote", "evict"] {
        dev.ok(&format!("election {change} job nobody"));
    }
    let term = dev.ok("election campaign job --candidate c -- printenv MULTIRAFT_FENCING_TOKEN");
    assert_eq!(term, "3");
}

/// What is in the groups, as administrators see and end it.
fn contents(dev: &Dev) {
    let json = |arguments: &str| dev.json(arguments);
    let primitives = || json("primitive list").as_array().expect("a list").clone();
    let find = |of: &str, name: &str| {
        primitives().into_iter().find(|one| one["type"] == of && one["name"] == name)
    };
    dev.ok("map transact doomed --put a=1 --put b=2 --put c=3");
    dev.ok("counter set spared 5");
    let map = find("map", "doomed").expect("it is listed");
    assert_eq!((&map["entries"], &map["namespace"]), (&3.into(), &"default".into()), "{map}");
    let destroyed = json("primitive destroy map doomed");
    assert_eq!(destroyed["groups"], map["groups"]);
    assert!(find("map", "doomed").is_none());
    assert_eq!(dev.ok("map size doomed"), "0");
    assert_eq!(dev.ok("counter get spared"), "5");
    let (code, error) = dev.fails("primitive destroy map nowhere");
    assert!(code == 1 && error.contains("multiraft primitive list"), "{error}");

    let mut holder = dev.start_command("lock hold ended -- sleep 600");
    eventually(|| dev.ok("lock status ended").starts_with("held, "));
    let lock = find("lock", "ended").expect("it is listed");
    let group = lock["groups"][0].as_u64().expect("a number");
    let sessions = json(&format!("session list --group {group}"));
    let session = sessions.as_array().expect("a list").last().expect("the holder's").clone();
    assert_eq!(session["group"], group, "{session}");
    dev.ok(&format!("session expire {group} {}", session["session"]));
    assert_eq!(dev.ok("lock status ended"), "free");
    assert_eq!(holder.wait().expect("it notices").code(), Some(3), "its lock was lost");
    assert_eq!(dev.fails("session list --group 77").0, 1);

    dev.ok("quota set shop --primitives 1 --bytes 1000");
    dev.ok("counter set one 1 --primitive-namespace shop");
    let quota = json("quota list")[0].clone();
    assert_eq!((&quota["namespace"], &quota["bytes"]["limit"]), (&"shop".into(), &1000.into()));
    let of_same_group = (0..).map(|n| format!("two-{n}")).find(|name| {
        multiraft_client::position(name.as_bytes(), 4) == multiraft_client::position(b"one", 4)
    });
    let second =
        format!("counter set {} 1 --primitive-namespace shop", of_same_group.expect("one"));
    let (code, error) = dev.fails(&second);
    assert!(code == 1 && error.contains("shop"), "{error}");
    dev.ok("quota remove shop");
    dev.ok(&second);
    assert_eq!(dev.fails("quota set shop").0, 2, "no limit");
}

/// What is listed and watched, and carried from one map to another.
fn streams(dev: &Dev) {
    let json = |arguments: &str| dev.json(arguments);
    dev.ok("map transact from --put a=1 --put b=2 --put c=3");
    let mut entries: Vec<_> = dev.ok("map entries from").lines().map(str::to_owned).collect();
    entries.sort();
    assert_eq!(entries, ["a  1", "b  2", "c  3"]);
    dev.ok("map transact from --put ab=4");
    let mut part: Vec<_> =
        dev.ok("map entries from --prefix a").lines().map(str::to_owned).collect();
    part.sort();
    assert_eq!(part, ["a  1", "ab  4"]);
    assert_eq!(dev.ok("map entries from --prefix a --start aa"), "ab  4");
    assert_eq!(dev.ok("map entries from --end ab"), "a  1");
    dev.ok("map remove from ab");
    let exported = dev.ok("map export from");
    assert_eq!(exported.lines().count(), 3, "{exported}");
    assert_eq!(dev.with_input("map import to", &exported), (Some(0), "3 written".into()));
    assert_eq!(dev.ok("map get to b"), "2");
    assert_eq!(dev.with_input("map import to", "no JSON").0, Some(2));

    let mut watch = dev.start_command("map watch to --key b -o json");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    // Until it has begun it sees nothing.
    let mut n = 0;
    let (sender, first) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let line = lines.next().expect("a change").expect("text");
        sender.send(()).expect("it is waited for");
        (line, lines)
    });
    eventually(|| {
        n += 1;
        dev.ok(&format!("map put to b {n}"));
        first.try_recv().is_ok()
    });
    let (line, mut lines) = reader.join().expect("no panic");
    let change: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&change["event"], &change["key"]), (&"updated".into(), &"b".into()), "{line}");
    dev.ok("map remove to b");
    let removed = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("removed")));
    assert!(removed.is_some());
    terminate(&watch);
    assert!(watch.wait().expect("it ends").success());

    dev.ok("set add tags red");
    assert_eq!(dev.ok("set elements tags"), "red");
    assert_eq!(dev.ok("set elements tags --prefix b"), "");
    dev.ok("countermap set stock apples 7");
    assert_eq!(dev.ok("countermap entries stock -o json"), r#"{"key":"apples","value":7}"#);
    dev.ok("multimap put-all roles ada admin author");
    assert_eq!(dev.ok("multimap entries roles"), "ada  admin author");
    dev.ok("indexedmap append queue k v");
    assert_eq!(dev.ok("indexedmap entries queue").lines().count(), 1);
    let index = json("indexedmap first queue")["place"].as_u64().expect("a number");
    let entries = |range: &str| dev.ok(&format!("indexedmap entries queue {range}"));
    assert_eq!(entries(&format!("--start {index} --end {}", index + 1)).lines().count(), 1);
    assert_eq!(entries(&format!("--end {index}")), "");
    dev.ok("value set motd hello");
    assert_eq!(dev.first_line("value watch motd"), "hello");
    dev.ok("election evict job nobody");
    assert!(dev.first_line("election watch job").starts_with("3  "));
}

fn terminate(process: &Child) {
    let sent = Command::new("kill").arg(process.id().to_string()).status();
    assert!(sent.expect("kill is there").success());
}

/// What an operator of the system does, on a cluster of three nodes and four groups.
fn administration(dev: &Dev) {
    let json = |arguments: &str| dev.json(arguments);
    let nodes = json("node list");
    let name = |n: usize| nodes[n]["client_address"].as_str().expect("an address").to_owned();
    let id = |n: usize| nodes[n]["node"].as_str().expect("an id").to_owned();
    assert!(dev.ok("node list").contains(" up "), "{nodes}");
    assert!(dev.ok(&format!("node show {}", id(0))).contains(&name(0)));
    let yaml = dev.ok(&format!("node show {} -o yaml", name(1)));
    assert!(yaml.contains(&format!("node: {}", id(1))), "{yaml}");
    let (code, error) = dev.fails("node show nowhere");
    assert!(code == 2 && error.contains(&id(2)), "{error}");

    eventually(|| dev.run(&format!("node check {}", name(0))).status.success());
    let drained = json(&format!("node drain {}", name(0)));
    assert_eq!(drained["led_groups"], serde_json::json!([]));
    assert!(dev.ok("node list").contains(" draining "));
    let led = |group: &serde_json::Value| group["leader"] == id(0).as_str();
    assert!(!json("group list").as_array().expect("a list").iter().any(led));
    let (code, error) = dev.fails(&format!("group transfer 1 {}", name(0)));
    assert!(code == 1 && error.contains("drains"), "{error}");
    dev.ok(&format!("node undrain {}", name(0)));
    let to = json(&format!("group transfer 1 {}", name(0)));
    assert_eq!(to["leader"], id(0).as_str());

    // One copy less and one more: the node that left comes back under a new member id.
    let away = dev.ok(&format!("group remove 2 {}", name(1)));
    assert!(away.contains("no member of group 2"), "{away}");
    assert_eq!(json("group members 2").as_array().map(Vec::len), Some(2));
    let (code, error) = dev.fails(&format!("group promote 2 {}", name(1)));
    assert!(code == 1 && error.contains("group members 2"), "{error}");
    eventually(|| dev.run(&format!("node leave {} 2", name(1))).status.success());
    let added = json(&format!("group add 2 {} --learner", name(1)));
    assert_eq!(added["member"], 4, "{added}");
    assert_eq!(json(&format!("node join {} 2 --learner", name(1)))["member"], 4, "done already");
    let member = json("group members 2").as_array().and_then(|m| m.last().cloned());
    assert_eq!(member.expect("three")["role"], "learner");
    eventually(|| dev.run(&format!("group promote 2 {}", name(1))).status.success());
    assert!(dev.ok("group show 2").contains("configuration"));
    let (code, error) = dev.fails("group show 99");
    assert!(code == 1 && error.contains("multiraft group list"), "{error}");
    let (code, error) = dev.fails(&format!("node delete-data {} 2 4", name(1)));
    assert!(code == 1 && error.contains("remove it first"), "{error}");
    assert_eq!(dev.ok("counter get visits"), "9223372036854775807");

    let top = json("top --once --interval 200ms");
    assert_eq!((&top["groups"], &top["groups_led"]), (&4.into(), &4.into()), "{top}");
    assert_eq!(top["nodes"].as_array().map(Vec::len), Some(3));
    let plain = dev.ok("top --once --interval 200ms");
    assert!(plain.starts_with("multiraft  3 nodes, 4 groups: 4 led"), "{plain}");
    assert!(!plain.contains('\x1b'), "{plain}");
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed().as_secs() < 30, "never");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn as_a_plugin_of_kubectl_it_asks_for_endpoints() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plugin = folder.path().join("kubectl-multiraft");
    std::os::unix::fs::symlink(nodes::program("multiraft"), &plugin).expect("a link");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&plugin);
        command.args(arguments).env_remove("MULTIRAFT_ENDPOINTS").output().expect("it starts")
    };
    let help = run(&["--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("Usage: kubectl multiraft"), "{help:?}");
    let refused = run(&["counter", "get", "visits"]);
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("kubectl port-forward"), "{message}");
}
