"""The client alone, against a scripted server on loopback."""

import threading
import time
import unittest

import flatbuffers
import zmq

from troupe import Client, RequestFailed, ServerUnreachable, TimedOut
from troupe.wire.Alive import AliveT
from troupe.wire.Chunk import ChunkT
from troupe.wire.ChoiceEnd import ChoiceEndT
from troupe.wire.ClientRequest import ClientRequest, ClientRequestT
from troupe.wire.Error import ErrorT
from troupe.wire.ErrorCode import ErrorCode
from troupe.wire.Final import FinalT
from troupe.wire.FinishReason import FinishReason
from troupe.wire.ReplyBody import ReplyBody
from troupe.wire.RequestBody import RequestBody
from troupe.wire.ServerReply import ServerReplyT
from troupe.wire.TokenIds import TokenIdsT
from troupe.wire.Usage import UsageT
from troupe.wire.Welcome import WelcomeT


def reply(request_id, kind, body):
    table = ServerReplyT()
    table.version, table.id, table.bodyType, table.body = 1, request_id, kind, body
    builder = flatbuffers.Builder(64)
    builder.Finish(table.Pack(builder))
    return bytes(builder.Output())


def chunk(request_id, text, choice=0):
    body = ChunkT()
    body.text, body.choice = text, choice
    return reply(request_id, ReplyBody.Chunk, body)


def final(request_id, finish=FinishReason.stop):
    end = ChoiceEndT()
    end.finish = finish
    body = FinalT()
    body.choices, body.usage = [end], UsageT()
    return reply(request_id, ReplyBody.Final, body)


def error(request_id, code, text):
    body = ErrorT()
    body.code, body.text = code, text
    return reply(request_id, ReplyBody.Error, body)


class ScriptedServer:
    """A ROUTER that answers Hello and gives every other request to `script(request) -> list of frames`."""

    def __init__(self, script):
        self.script = script
        self.requests = []
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self.later = None  # later(n): a frame to send in the n-th idle moment, every 100 ms
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        identity, idle = None, 0
        while not self.stopping.is_set():
            if not self.socket.poll(100 if self.later else 20):
                if self.later and self.requests:
                    self.socket.send_multipart([identity, self.later(idle)])
                    idle += 1
                continue
            identity, frame = self.socket.recv_multipart()
            request = ClientRequestT.InitFromObj(ClientRequest.GetRootAs(frame))
            if request.bodyType == RequestBody.Hello:
                welcome = WelcomeT()
                welcome.version, welcome.server = 1, "scripted"
                frames = [reply(request.id, ReplyBody.Welcome, welcome)]
            else:
                self.requests.append(request)
                frames = self.script(request)
            for out in frames:
                self.socket.send_multipart([identity, out])
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.stopping.set()
        self.thread.join()


class ClientTest(unittest.TestCase):
    def test_says_where_no_server_answers(self):
        with self.assertRaisesRegex(ServerUnreachable, "tcp://127.0.0.1:1 .*troupe serve"):
            Client("tcp://127.0.0.1:1", timeout=0.2)

    def test_sends_every_option_under_its_schema_name(self):
        with ScriptedServer(lambda r: [final(r.id)]) as server, Client(server.endpoint, timeout=5) as client:
            client.complete(
                "hello",
                model="m",
                temperature=0.5,
                top_k=3,
                top_p=0.9,
                min_p=0.1,
                repetition_penalty=1.1,
                presence_penalty=0.2,
                frequency_penalty=0.3,
                logit_bias={7: -2.0},
                seed=11,
                max_tokens=5,
                min_tokens=2,
                stop=["a", "b"],
                stop_token_ids=[9],
                ignore_eos=True,
                include_stop_string=True,
                n=2,
                stream=False,
                logprobs=True,
                top_logprobs=4,
                prompt_logprobs=1,
                echo=True,
                skip_special_tokens=False,
                add_special_tokens=False,
                deadline_ms=100,
            )
            g = server.requests[0].body
            s, stop = g.sampling, g.stop
            self.assertEqual((g.model, g.prompt.text, g.prompt.addSpecialTokens), (b"m", b"hello", False))
            self.assertAlmostEqual(s.temperature, 0.5, places=6)
            self.assertEqual((s.topK, s.seed, s.hasSeed), (3, 11, True))
            floats = (s.topP, s.minP, s.repetitionPenalty, s.presencePenalty, s.frequencyPenalty)
            for found, sent in zip(floats, (0.9, 0.1, 1.1, 0.2, 0.3)):
                self.assertAlmostEqual(found, sent, places=6)
            self.assertEqual([(b.token, b.bias) for b in s.logitBias], [(7, -2.0)])
            self.assertEqual((stop.maxTokens, stop.minTokens, list(stop.strings)), (5, 2, [b"a", b"b"]))
            self.assertEqual((list(stop.tokenIds), stop.ignoreEos, stop.includeStopString), ([9], True, True))
            self.assertEqual((g.n, g.stream, g.logprobs, g.topLogprobs), (2, False, True, 4))
            self.assertEqual((g.promptLogprobs, g.echo, g.skipSpecialTokens, g.deadlineMs), (1, True, False, 100))

    def test_leaves_sampling_to_the_server_when_nothing_was_said(self):
        with ScriptedServer(lambda r: [final(r.id)]) as server, Client(server.endpoint, timeout=5) as client:
            client.complete("hello", max_tokens=1)
            self.assertIsNone(server.requests[0].body.sampling)

    def test_refuses_an_unknown_option_by_name(self):
        with ScriptedServer(lambda r: []) as server, Client(server.endpoint, timeout=5) as client:
            with self.assertRaisesRegex(TypeError, "temprature"):
                client.generate("x", temprature=1)

    def test_refuses_what_cannot_be_sent_and_says_which_it_is(self):
        wrong = {
            "seed is -1": {"seed": -1},
            f"seed is {2**64}": {"seed": 2**64},
            "seed is 1.5": {"seed": 1.5},
            "max_tokens is -1": {"max_tokens": -1},
            "prompt_logprobs is 'x'": {"prompt_logprobs": "x"},
            "a token id is 4294967296": {"stop_token_ids": [2**32]},
            "message 1: 'content' is None": {"prompt": [{"role": "user", "content": "x"}, {"role": "user"}]},
        }
        with ScriptedServer(lambda r: [final(r.id)]) as server, Client(server.endpoint, timeout=5) as client:
            for text, options in wrong.items():
                with self.subTest(text), self.assertRaisesRegex(ValueError, text):
                    client.generate(**{"prompt": "x", **options})
            client.complete("hello", max_tokens=1)
            self.assertEqual(len(server.requests), 1)

    def test_keeps_streams_apart(self):
        held = []

        def script(request):
            held.append(request.id)
            if len(held) < 2:
                return []
            a, b = held
            return [chunk(a, "a1"), chunk(b, "b1"), chunk(a, "a2"), final(a), chunk(b, "b2"), final(b)]

        with ScriptedServer(script) as server, Client(server.endpoint, timeout=5) as client:
            first, second = client.generate("1"), client.generate("2")
            self.assertEqual(second.result().text, "b1b2")
            self.assertEqual(first.result().text, "a1a2")

    def test_ignores_signs_of_life(self):
        script = lambda r: [reply(r.id, ReplyBody.Alive, AliveT()), chunk(r.id, "x"), final(r.id)]
        with ScriptedServer(script) as server, Client(server.endpoint, timeout=5) as client:
            self.assertEqual(client.complete("x").text, "x")

    def test_signs_of_life_extend_the_timeout(self):
        started = []

        def script(request):
            started.append(request.id)
            return []

        with ScriptedServer(script) as server, Client(server.endpoint, timeout=5) as client:
            server.later = lambda n: reply(started[0], ReplyBody.Alive, AliveT()) if n < 12 else final(started[0])
            self.assertEqual(client.complete("x", timeout=0.3).text, "")

    def test_a_lost_server_ends_what_is_open(self):
        with ScriptedServer(lambda r: [chunk(r.id, "x")]) as server:
            client = Client(server.endpoint, timeout=None)
            stream = client.generate("x")
            self.assertEqual(next(stream).text, "x")
        with self.assertRaisesRegex(ServerUnreachable, "lost"):
            next(stream)
        client.close()

    def test_a_dropped_stream_is_cancelled(self):
        with ScriptedServer(lambda r: [chunk(r.id, "x")] if r.bodyType == RequestBody.Generate else []) as server:
            with Client(server.endpoint, timeout=5) as client:
                for _ in client.generate("x"):
                    break
                time.sleep(0.2)
                self.assertEqual([r.bodyType for r in server.requests], [RequestBody.Generate, RequestBody.Cancel])

    def test_raises_the_servers_error_with_its_name(self):
        script = lambda r: [chunk(r.id, "x"), error(r.id, ErrorCode.unknown_model, "no such model")]
        with ScriptedServer(script) as server, Client(server.endpoint, timeout=5) as client:
            stream = client.generate("x")
            self.assertEqual(next(stream).text, "x")
            with self.assertRaises(RequestFailed) as caught:
                next(stream)
            self.assertEqual((caught.exception.name, caught.exception.code), ("unknown_model", 4))

    def test_times_out_and_cancels_at_the_server(self):
        with ScriptedServer(lambda r: []) as server, Client(server.endpoint, timeout=5) as client:
            with self.assertRaises(TimedOut):
                client.generate("x", timeout=0.1).result()
            server.script = lambda r: [] if r.bodyType == RequestBody.Cancel else [final(r.id)]
            client.complete("y")
            kinds = [r.bodyType for r in server.requests]
            self.assertEqual(kinds, [RequestBody.Generate, RequestBody.Cancel, RequestBody.Generate])
            self.assertEqual(server.requests[1].body.target, server.requests[0].id)

    def test_answers_of_other_requests_do_not_disturb_a_stream(self):
        open_stream = []

        def script(request):
            if request.bodyType == RequestBody.Generate:
                open_stream.append(request.id)
                return [chunk(request.id, "one")]
            ids = TokenIdsT()
            ids.ids = [1, 2]
            return [chunk(open_stream[0], "two"), reply(request.id, ReplyBody.TokenIds, ids), final(open_stream[0])]

        with ScriptedServer(script) as server, Client(server.endpoint, timeout=5) as client:
            stream = client.generate("x")
            self.assertEqual(client.tokenize("ab"), [1, 2])
            self.assertEqual(stream.result().text, "onetwo")


if __name__ == "__main__":
    unittest.main()
