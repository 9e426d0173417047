//! The commands of Valkey 8.1, those that tenants may be given and those they may not.

/// Groups of commands, as Valkey itself calls them; what is dangerous in them is taken out again.
pub const GROUPS: [&str; 18] = [
    "bitmap",
    "blocking",
    "connection",
    "fast",
    "geo",
    "hash",
    "hyperloglog",
    "keyspace",
    "list",
    "pubsub",
    "read",
    "scripting",
    "set",
    "sortedset",
    "stream",
    "string",
    "transaction",
    "write",
];

/// Commands outside the groups `@dangerous` and `@admin`, and those inside that clients need.
const SAFE: &str = "
append auth bitcount bitfield bitfield_ro bitop bitpos blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax
bzpopmin client client|caching client|capa client|getname client|getredir client|id client|import-source
client|info client|no-touch client|reply client|setinfo client|setname client|tracking client|trackinginfo
command command|count command|docs command|getkeys command|getkeysandflags command|info command|list copy dbsize
decr decrby del discard dump echo eval eval_ro evalsha evalsha_ro exec exists expire expireat expiretime fcall
fcall_ro function function|delete function|dump function|flush function|kill function|list function|load
function|restore function|stats geoadd geodist geohash geopos georadius georadius_ro georadiusbymember
georadiusbymember_ro geosearch geosearchstore get getbit getdel getex getrange getset hdel hello hexists hget
hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx hstrlen hvals incr incrby
incrbyfloat info lcs lindex linsert llen lmove lmpop lolwut lpop lpos lpush lpushx lrange lrem lset ltrim memory
memory|doctor memory|malloc-stats memory|purge memory|stats memory|usage mget move mset msetnx multi object
object|encoding object|freq object|idletime object|refcount persist pexpire pexpireat pexpiretime pfadd pfcount
pfmerge ping psetex psubscribe pttl publish pubsub pubsub|channels pubsub|numpat pubsub|numsub
pubsub|shardchannels pubsub|shardnumsub punsubscribe quit randomkey rename renamenx reset role rpop rpoplpush
rpush rpushx sadd scan scard script script|debug script|exists script|flush script|kill script|load script|show
sdiff sdiffstore select set setbit setex setnx setrange sinter sintercard sinterstore sismember smembers
smismember smove spop spublish srandmember srem sscan ssubscribe strlen subscribe substr sunion sunionstore
sunsubscribe time touch ttl type unlink unsubscribe unwatch wait waitaof watch xack xadd xautoclaim xclaim xdel
xgroup xgroup|create xgroup|createconsumer xgroup|delconsumer xgroup|destroy xgroup|setid xinfo xinfo|consumers
xinfo|groups xinfo|stream xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim zadd zcard zcount zdiff
zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange
zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange
zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore
";

/// Commands in the groups `@dangerous` and `@admin`.
const DANGEROUS: &str = "
acl|deluser acl|dryrun acl|getuser acl|list acl|load acl|log acl|save acl|setuser acl|users bgrewriteaof bgsave
client|kill client|list client|no-evict client|pause client|unblock client|unpause cluster|addslots
cluster|addslotsrange cluster|bumpepoch cluster|count-failure-reports cluster|delslots cluster|delslotsrange
cluster|failover cluster|flushslots cluster|forget cluster|meet cluster|replicas cluster|replicate cluster|reset
cluster|saveconfig cluster|set-config-epoch cluster|setslot cluster|slaves commandlog|get commandlog|len
commandlog|reset config|get config|resetstat config|rewrite config|set debug failover flushall flushdb keys
lastsave latency|doctor latency|graph latency|histogram latency|history latency|latest latency|reset migrate
module|list module|load module|loadex module|unload monitor pfdebug pfselftest psync replconf replicaof restore
restore-asking save shutdown slaveof slowlog|get slowlog|len slowlog|reset sort sort_ro swapdb sync
";

/// What is wrong with a command or group, if anything, and what would do.
pub fn wrong(word: &str) -> Option<(&'static str, String)> {
    let near = |names: &mut dyn Iterator<Item = &'static str>, mark: &str, bare: &str| {
        let by_distance = |known: &&str| strsim::damerau_levenshtein(bare, known);
        let near = names.min_by_key(by_distance).filter(|near| by_distance(near) <= bare.len().div_ceil(3));
        near.map_or_else(|| "leave it out".to_owned(), |near| format!("did you mean {mark}{near}?"))
    };
    if let Some(group) = word.strip_prefix('@') {
        return match group {
            _ if GROUPS.contains(&group) => None,
            "all" | "admin" | "dangerous" => Some((
                "this group holds commands that act on the whole server",
                format!("possible: @{}", GROUPS.join(", @")),
            )),
            _ => Some(("there is no such group", near(&mut GROUPS.into_iter(), "@", group))),
        };
    }
    if SAFE.split_whitespace().any(|safe| safe == word) {
        return None;
    }
    if DANGEROUS.split_whitespace().any(|dangerous| dangerous == word) {
        return Some(("this command acts on the whole server or on other clients", "leave it out".to_owned()));
    }
    Some(("there is no such command", near(&mut SAFE.split_whitespace(), "", word)))
}
