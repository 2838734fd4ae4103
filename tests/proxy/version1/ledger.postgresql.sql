SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.about (
    id integer NOT NULL,
    version integer NOT NULL,
    created_ms bigint NOT NULL
);
CREATE SEQUENCE public.about_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.about_id_seq OWNED BY public.about.id;
CREATE TABLE public.calls (
    id bigint NOT NULL,
    user_id text NOT NULL,
    key_id text NOT NULL,
    worker bigint NOT NULL,
    endpoint text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    stream boolean NOT NULL,
    status text NOT NULL,
    http_status integer,
    started_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    ended_ms bigint,
    reserved bigint NOT NULL,
    reserved_tokens bigint NOT NULL,
    cost bigint,
    priced boolean NOT NULL,
    estimated boolean,
    price_version text NOT NULL,
    trace_id text NOT NULL,
    input bigint,
    cache_read bigint,
    cache_write bigint,
    cache_write_1h bigint,
    output bigint,
    reasoning bigint,
    audio_input bigint,
    audio_output bigint,
    searches bigint
);
CREATE TABLE public.keys (
    id text NOT NULL,
    user_id text NOT NULL,
    digest text NOT NULL,
    hint text NOT NULL,
    created_ms bigint NOT NULL,
    revoked_ms bigint
);
CREATE TABLE public.leases (
    name text NOT NULL,
    worker bigint NOT NULL,
    expires_ms bigint NOT NULL
);
CREATE TABLE public.series (
    user_id text NOT NULL,
    model text NOT NULL,
    status text NOT NULL,
    created_ms bigint NOT NULL,
    calls bigint NOT NULL,
    cost bigint NOT NULL,
    unpriced bigint NOT NULL,
    input bigint NOT NULL,
    cache_read bigint NOT NULL,
    cache_write bigint NOT NULL,
    output bigint NOT NULL,
    reasoning bigint NOT NULL
);
CREATE TABLE public.users (
    user_id text NOT NULL,
    created_ms bigint NOT NULL,
    daily_budget bigint,
    monthly_budget bigint,
    requests_per_minute bigint,
    tokens_per_minute bigint,
    keys_version bigint DEFAULT '0'::bigint NOT NULL,
    day bigint DEFAULT '0'::bigint NOT NULL,
    day_spent bigint DEFAULT '0'::bigint NOT NULL,
    month bigint DEFAULT '0'::bigint NOT NULL,
    month_spent bigint DEFAULT '0'::bigint NOT NULL,
    minute bigint DEFAULT '0'::bigint NOT NULL,
    minute_requests bigint DEFAULT '0'::bigint NOT NULL,
    minute_tokens bigint DEFAULT '0'::bigint NOT NULL,
    reserved bigint DEFAULT '0'::bigint NOT NULL,
    reserved_tokens bigint DEFAULT '0'::bigint NOT NULL,
    rejections bigint DEFAULT '0'::bigint NOT NULL
);
CREATE TABLE public.workers (
    id integer NOT NULL,
    name text NOT NULL,
    heartbeat_ms bigint NOT NULL
);
CREATE SEQUENCE public.workers_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.workers_id_seq OWNED BY public.workers.id;
ALTER TABLE ONLY public.about ALTER COLUMN id SET DEFAULT nextval('public.about_id_seq'::regclass);
ALTER TABLE ONLY public.workers ALTER COLUMN id SET DEFAULT nextval('public.workers_id_seq'::regclass);
INSERT INTO public.about VALUES (1, 1, 1796133354029);
INSERT INTO public.calls VALUES (915602003718049792, 'ann', 'key_3eeb0679522477f9', 1, 'messages', 'anthropic', 'claude-sonnet-4-6', false, 'ok', 200, 1796133328749, 101796133328749, 1796133328750, 3000000000, 900, 1234567891, true, false, 'genai-prices 0.0.47', '0af7651916cd43dd8448eb211c80319c', 100, 20, 5, 0, 42, 7, 0, 0, 0);
INSERT INTO public.calls VALUES (915602003722244096, 'bob', 'key_dd4cce447da2cacb', 1, 'chat', 'openai', 'gpt-4.1', false, 'ok', 200, 1796133328750, 101796133328750, 1796133328750, 3000000000, 900, 52000000, true, true, 'genai-prices 0.0.47', '0af7651916cd43dd8448eb211c80319c', 10, 0, 0, 0, 4, 0, 0, 0, 0);
INSERT INTO public.calls VALUES (915602003726438400, 'bob', 'key_dd4cce447da2cacb', 1, 'chat', 'openai', 'gpt-4.1', false, 'client_error', 400, 1796133328751, 101796133328751, 1796133328751, 3000000000, 900, 0, true, false, 'genai-prices 0.0.47', '0af7651916cd43dd8448eb211c80319c', 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO public.keys VALUES ('key_3eeb0679522477f9', 'ann', '202b2065375285aeeffede32a65d1842f843639a096b19beaa6ad23e43752e8b', 'qPE4', 1796133328724, NULL);
INSERT INTO public.keys VALUES ('key_dd4cce447da2cacb', 'bob', 'dcd8dcff87d12ec58d8ecb001860f073d3676cbcb6995bc242a10e6039e5244a', 'JNBk', 1796133328731, NULL);
INSERT INTO public.keys VALUES ('key_0b87b054ab053a07', 'bob', '0c59ba6b6ccf23c9efe20f23aa3e6643f7048059332c54855bd3240a69afcb9e', 'kdtc', 1796133328733, 1796133328765);
INSERT INTO public.leases VALUES ('reporter', 1, 1796133334744);
INSERT INTO public.series VALUES ('ann', 'claude-sonnet-4-6', 'ok', 1796133328750, 1, 1234567891, 0, 100, 20, 5, 42, 7);
INSERT INTO public.series VALUES ('bob', 'gpt-4.1', 'ok', 1796133328751, 1, 52000000, 0, 10, 0, 0, 4, 0);
INSERT INTO public.series VALUES ('bob', 'gpt-4.1', 'client_error', 1796133328755, 1, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO public.users VALUES ('ann', 1796133328722, 5000000000000, NULL, 100, NULL, 1, 20788, 1234567891, 24323, 1234567891, 29935555, 1, 167, 0, 0, 0);
INSERT INTO public.users VALUES ('bob', 1796133328731, NULL, NULL, NULL, NULL, 3, 20788, 52000000, 24323, 52000000, 29935555, 2, 14, 0, 0, 0);
SELECT pg_catalog.setval('public.about_id_seq', 1, false);
SELECT pg_catalog.setval('public.workers_id_seq', 1, true);
ALTER TABLE ONLY public.about
    ADD CONSTRAINT about_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.calls
    ADD CONSTRAINT calls_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys
    ADD CONSTRAINT keys_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.keys
    ADD CONSTRAINT keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.series
    ADD CONSTRAINT series_pkey PRIMARY KEY (user_id, model, status);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (user_id);
ALTER TABLE ONLY public.workers
    ADD CONSTRAINT workers_pkey PRIMARY KEY (id);
CREATE INDEX calls_open ON public.calls USING btree (expires_ms) WHERE (status = 'open'::text);
CREATE INDEX ix_keys_user_id ON public.keys USING btree (user_id);
ALTER TABLE ONLY public.keys
    ADD CONSTRAINT keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(user_id);
