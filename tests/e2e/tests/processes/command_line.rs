//! `multiraft` as people and scripts use it.

use std::io::{BufRead, BufReader};
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

    /// Standard output of a command that succeeds.
    fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }

    /// Exit code and standard error of a command that does not.
    fn fails(&self, arguments: &str) -> (i32, String) {
        let output = self.run(arguments);
        let code = output.status.code().expect("it ends by itself");
        (code, String::from_utf8(output.stderr).expect("text").trim_end().to_owned())
    }

    fn interrupt(mut self) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().expect("kill is there");
        assert!(sent.success());
        let status = self.process.wait().expect("it can be waited for");
        assert!(status.success(), "{status}");
        assert!(!self.data.exists(), "{} is left", self.data.display());
        let error = self.fails("counter get visits --timeout 1s");
        assert_eq!(error.0, 3, "{}", error.1);
        assert!(error.1.contains("check the addresses and that the nodes run"), "{}", error.1);
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
    let update = format!("map update users ada countess --if-index {}", json["version"]);
    dev.ok(&update);
    assert_eq!(dev.fails(&update).0, 1, "the version is another by now");
    assert_eq!(
        dev.fails("map insert users ada x"),
        (1, "error: already exists: key: has an entry".into())
    );
    dev.ok("map insert users charles engineer --ttl 1h");
    assert_eq!(dev.ok("map size users"), "2");
    assert_eq!(dev.ok("map remove users ada"), "countess");
    assert_eq!(dev.fails("map get users ada"), (1, "error: key \"ada\" is not there".into()));
    dev.ok("map clear users");
    assert_eq!(dev.ok("map size users"), "0");

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

/// What an operator of the system does, on a cluster of three nodes and four groups.
fn administration(dev: &Dev) {
    let json = |arguments: &str| -> serde_json::Value {
        serde_json::from_str(&dev.ok(&format!("{arguments} -o json"))).expect("JSON")
    };
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
