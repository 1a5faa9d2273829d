//! Inputs and outputs of operations as text, by their descriptors.

use std::error::Error;
use std::sync::LazyLock;

use bytes::Bytes;
use goldenscript::Argument;
use multiraft_proto::DESCRIPTORS;
use multiraft_proto::rpc::Rpc;
use prost_reflect::prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value,
};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap());

fn descriptor(rpc: &Rpc, suffix: &str) -> MessageDescriptor {
    let package = rpc.path.trim_start_matches('/').rsplit_once('.').unwrap().0;
    POOL.get_message_by_name(&format!("{package}.{}{suffix}", rpc.method)).unwrap()
}

/// Name and kind of the fields of an input, and whether there can be several.
pub fn fields(rpc: &Rpc) -> Vec<(String, Kind, bool)> {
    let fields = descriptor(rpc, "Input").fields().collect::<Vec<_>>();
    fields.iter().map(|field| (field.name().to_owned(), field.kind(), field.is_list())).collect()
}

/// The input of an operation from `field=value`; a field of several values comes several times.
pub fn encode(rpc: &Rpc, fields: &[Argument]) -> Result<Bytes, Box<dyn Error>> {
    fill(descriptor(rpc, "Input"), fields)
}

/// A message of the core package.
pub fn encode_core(name: &str, fields: &[Argument]) -> Result<Bytes, Box<dyn Error>> {
    fill(core(name), fields)
}

fn core(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("atomix.multiraft.v1.{name}")).unwrap()
}

fn fill(descriptor: MessageDescriptor, fields: &[Argument]) -> Result<Bytes, Box<dyn Error>> {
    let mut message = DynamicMessage::new(descriptor);
    for field in fields {
        let Argument::KeyValue(name, text) = field else {
            return Err(format!("{field}: not a field").into());
        };
        set(&mut message, name, text)?;
    }
    Ok(message.encode_to_vec().into())
}

fn set(message: &mut DynamicMessage, name: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let descriptor = message.descriptor();
    let field = descriptor.get_field_by_name(name);
    let field = field.ok_or_else(|| format!("{} has no field {name}", descriptor.name()))?;
    let value = value(&field.kind(), text)?;
    match field.is_list() {
        true => message.get_field_mut(&field).as_list_mut().unwrap().push(value),
        false => message.set_field(&field, value),
    }
    Ok(())
}

fn value(kind: &Kind, text: &str) -> Result<Value, Box<dyn Error>> {
    // "x" 2000 times is `2000*x`.
    let text = match text.split_once('*') {
        Some((count, part)) => part.repeat(count.parse()?),
        None => text.to_owned(),
    };
    Ok(match kind {
        Kind::String => Value::String(text),
        Kind::Bytes => Value::Bytes(text.into()),
        Kind::Bool => Value::Bool(text.parse()?),
        Kind::Uint32 => Value::U32(text.parse()?),
        Kind::Uint64 => Value::U64(text.parse()?),
        Kind::Int64 => Value::I64(text.parse()?),
        Kind::Message(message) => {
            let mut inner = DynamicMessage::new(message.clone());
            if message.full_name() == "google.protobuf.Duration" {
                let (seconds, nanos) = duration(&text)?;
                inner.set_field_by_name("seconds", Value::I64(seconds));
                inner.set_field_by_name("nanos", Value::I32(nanos));
            } else if message.name() == "MapInput" {
                // As on a line of its own: `put key=a value=one`.
                let mut words = text.split_whitespace();
                let case = message.get_field_by_name(words.next().unwrap_or_default());
                let case = case.ok_or_else(|| format!("{text}: no such write"))?;
                let Kind::Message(write) = case.kind() else { return Err("not a write".into()) };
                let mut fields = DynamicMessage::new(write);
                words.try_for_each(|word| match word.split_once('=') {
                    Some((name, text)) => set(&mut fields, name, text),
                    None => Err(format!("{word}: not a field").into()),
                })?;
                inner.set_field(&case, Value::Message(fields));
            } else if message.name() == "Entry" {
                // Of a multimap: `key:value,value`.
                let (key, values) = text.split_once(':').ok_or("an entry is key:value,value")?;
                set(&mut inner, "key", key)?;
                let mut values = values.split(',').filter(|value| !value.is_empty());
                values.try_for_each(|value| set(&mut inner, "values", value))?;
            } else {
                // A message of one string, such as an element of a set.
                inner.set_field_by_name("value", Value::String(text));
            }
            Value::Message(inner)
        }
        other => return Err(format!("no value of {other:?} can be written").into()),
    })
}

/// `5s` or `20ms`.
pub fn duration(text: &str) -> Result<(i64, i32), Box<dyn Error>> {
    let millis: i64 = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(millis), _) => millis.parse()?,
        (None, Some(seconds)) => seconds.parse::<i64>()? * 1_000,
        (None, None) => return Err(format!("{text}: not a time").into()),
    };
    Ok((millis / 1_000, (millis % 1_000 * 1_000_000) as i32))
}

/// The items of a list for administrators, and whether there are more.
pub fn read_list(response: &str, output: Bytes) -> (Vec<String>, bool) {
    let message = DynamicMessage::decode(core(response), output).unwrap();
    let items = message.get_field_by_number(1).unwrap();
    let more = message.get_field_by_name("more").unwrap();
    (items.as_list().unwrap().iter().map(text).collect(), more.as_bool().unwrap())
}

/// An output of an operation.
pub fn read(rpc: &Rpc, output: Bytes) -> String {
    let message = DynamicMessage::decode(descriptor(rpc, "Output"), output).unwrap();
    text(&Value::Message(message))
}

fn text(value: &Value) -> String {
    match value {
        Value::Message(message) => {
            // All fields of one value, also of zero; of messages and cases those that are set.
            let descriptor = message.descriptor();
            let fields = descriptor.fields().filter(|field| {
                let is_message = matches!(field.kind(), Kind::Message(_));
                message.has_field(field) || !(is_message || field.containing_oneof().is_some())
            });
            let fields: Vec<_> = fields
                .map(|field| format!("{}: {}", field.name(), text(&message.get_field(&field))))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::List(values) => {
            format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => text.clone(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Bool(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}
