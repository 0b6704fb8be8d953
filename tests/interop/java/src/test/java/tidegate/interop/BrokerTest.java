package tidegate.interop;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;

/** What all suites share: clients of the broker for one test. */
abstract class BrokerTest {
    Broker broker;

    @BeforeEach
    void connect() {
        broker = new Broker();
    }

    @AfterEach
    void disconnect() throws Exception {
        broker.close();
    }

    static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, UTF_8);
    }

    /** The values "0", "1" ... */
    static List<byte[]> numbered(int count) {
        return IntStream.range(0, count).mapToObj(i -> bytes(Integer.toString(i))).toList();
    }
}
