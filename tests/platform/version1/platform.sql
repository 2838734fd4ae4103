BEGIN TRANSACTION;
CREATE TABLE containers (
    handle text primary key,
    container_id text not null,
    phase text not null,
    wanted integer not null,
    spec text,
    key_id text not null,
    created_ms integer not null,
    totals text not null,
    logs_until text not null
) without rowid;
INSERT INTO "containers" VALUES('adopted','c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2','made',1,NULL,'',1796133354983,'{"restarts": 0, "oom_kills": 0, "docker_restarts": 0, "run": "", "run_oom_kills": 0}','');
INSERT INTO "containers" VALUES('ann','c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1','made',1,'{"image": "python:3.12-slim", "env": {"A": "1"}}','key_3eeb0679522477f9',1796133354975,'{"restarts": 3, "oom_kills": 1, "docker_restarts": 2, "run": "2026-12-01T13:00:00Z", "run_oom_kills": 1}','2026-12-01T13:05:00.000000001Z');
INSERT INTO "containers" VALUES('gone','','removing',0,'{"image": "x"}','key_dd4cce447da2cacb',1796133354985,'{"restarts": 0, "oom_kills": 0, "docker_restarts": 0, "run": "", "run_oom_kills": 0}','');
CREATE TABLE platform (id text not null, engine_id text not null);
INSERT INTO "platform" VALUES('5affeb128131','ENGINE:0001');
CREATE TABLE revocations (
    id integer primary key,
    handle text not null,
    key_id text not null,
    from_ms integer not null,
    to_ms integer not null
);
INSERT INTO "revocations" VALUES(1,'gone','key_dd4cce447da2cacb',1796133354985,1796133355002);
COMMIT;
