BEGIN TRANSACTION;
CREATE TABLE about (
	id INTEGER NOT NULL,
	version INTEGER NOT NULL,
	created_ms BIGINT NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO "about" VALUES(1,1,1796133328717);
CREATE TABLE calls (
	id INTEGER NOT NULL,
	user_id TEXT NOT NULL,
	key_id TEXT NOT NULL,
	worker BIGINT NOT NULL,
	endpoint TEXT NOT NULL,
	provider TEXT NOT NULL,
	model TEXT NOT NULL,
	stream BOOLEAN NOT NULL,
	status TEXT NOT NULL,
	http_status INTEGER,
	started_ms BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL,
	ended_ms BIGINT,
	reserved BIGINT NOT NULL,
	reserved_tokens BIGINT NOT NULL,
	cost BIGINT,
	priced BOOLEAN NOT NULL,
	estimated BOOLEAN,
	price_version TEXT NOT NULL,
	trace_id TEXT NOT NULL,
	input BIGINT,
	cache_read BIGINT,
	cache_write BIGINT,
	cache_write_1h BIGINT,
	output BIGINT,
	reasoning BIGINT,
	audio_input BIGINT,
	audio_output BIGINT,
	searches BIGINT,
	PRIMARY KEY (id)
);
INSERT INTO "calls" VALUES(915602003718049792,'ann','key_3eeb0679522477f9',1,'messages','anthropic','claude-sonnet-4-6',0,'ok',200,1796133328749,101796133328749,1796133328750,3000000000,900,1234567891,1,0,'genai-prices 0.0.47','0af7651916cd43dd8448eb211c80319c',100,20,5,0,42,7,0,0,0);
INSERT INTO "calls" VALUES(915602003722244096,'bob','key_dd4cce447da2cacb',1,'chat','openai','gpt-4.1',0,'ok',200,1796133328750,101796133328750,1796133328750,3000000000,900,52000000,1,1,'genai-prices 0.0.47','0af7651916cd43dd8448eb211c80319c',10,0,0,0,4,0,0,0,0);
INSERT INTO "calls" VALUES(915602003726438400,'bob','key_dd4cce447da2cacb',1,'chat','openai','gpt-4.1',0,'client_error',400,1796133328751,101796133328751,1796133328751,3000000000,900,0,1,0,'genai-prices 0.0.47','0af7651916cd43dd8448eb211c80319c',0,0,0,0,0,0,0,0,0);
CREATE TABLE keys (
	id TEXT NOT NULL,
	user_id TEXT NOT NULL,
	digest TEXT NOT NULL,
	hint TEXT NOT NULL,
	created_ms BIGINT NOT NULL,
	revoked_ms BIGINT,
	PRIMARY KEY (id),
	FOREIGN KEY(user_id) REFERENCES users (user_id),
	UNIQUE (digest)
);
INSERT INTO "keys" VALUES('key_3eeb0679522477f9','ann','202b2065375285aeeffede32a65d1842f843639a096b19beaa6ad23e43752e8b','qPE4',1796133328724,NULL);
INSERT INTO "keys" VALUES('key_dd4cce447da2cacb','bob','dcd8dcff87d12ec58d8ecb001860f073d3676cbcb6995bc242a10e6039e5244a','JNBk',1796133328731,NULL);
INSERT INTO "keys" VALUES('key_0b87b054ab053a07','bob','0c59ba6b6ccf23c9efe20f23aa3e6643f7048059332c54855bd3240a69afcb9e','kdtc',1796133328733,1796133328765);
CREATE TABLE leases (
	name TEXT NOT NULL,
	worker BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL,
	PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('reporter',1,1796133334744);
CREATE TABLE series (
	user_id TEXT NOT NULL,
	model TEXT NOT NULL,
	status TEXT NOT NULL,
	created_ms BIGINT NOT NULL,
	calls BIGINT NOT NULL,
	cost BIGINT NOT NULL,
	unpriced BIGINT NOT NULL,
	input BIGINT NOT NULL,
	cache_read BIGINT NOT NULL,
	cache_write BIGINT NOT NULL,
	output BIGINT NOT NULL,
	reasoning BIGINT NOT NULL,
	PRIMARY KEY (user_id, model, status)
);
INSERT INTO "series" VALUES('ann','claude-sonnet-4-6','ok',1796133328750,1,1234567891,0,100,20,5,42,7);
INSERT INTO "series" VALUES('bob','gpt-4.1','ok',1796133328751,1,52000000,0,10,0,0,4,0);
INSERT INTO "series" VALUES('bob','gpt-4.1','client_error',1796133328755,1,0,0,0,0,0,0,0);
CREATE TABLE users (
	user_id TEXT NOT NULL,
	created_ms BIGINT NOT NULL,
	daily_budget BIGINT,
	monthly_budget BIGINT,
	requests_per_minute BIGINT,
	tokens_per_minute BIGINT,
	keys_version BIGINT DEFAULT '0' NOT NULL,
	day BIGINT DEFAULT '0' NOT NULL,
	day_spent BIGINT DEFAULT '0' NOT NULL,
	month BIGINT DEFAULT '0' NOT NULL,
	month_spent BIGINT DEFAULT '0' NOT NULL,
	minute BIGINT DEFAULT '0' NOT NULL,
	minute_requests BIGINT DEFAULT '0' NOT NULL,
	minute_tokens BIGINT DEFAULT '0' NOT NULL,
	reserved BIGINT DEFAULT '0' NOT NULL,
	reserved_tokens BIGINT DEFAULT '0' NOT NULL,
	rejections BIGINT DEFAULT '0' NOT NULL,
	PRIMARY KEY (user_id)
);
INSERT INTO "users" VALUES('ann',1796133328722,5000000000000,NULL,100,NULL,1,20788,1234567891,24323,1234567891,29935555,1,167,0,0,0);
INSERT INTO "users" VALUES('bob',1796133328731,NULL,NULL,NULL,NULL,3,20788,52000000,24323,52000000,29935555,2,14,0,0,0);
CREATE TABLE workers (
	id INTEGER NOT NULL,
	name TEXT NOT NULL,
	heartbeat_ms BIGINT NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX calls_open ON calls (expires_ms) WHERE status = 'open';
CREATE INDEX ix_keys_user_id ON keys (user_id);
COMMIT;
