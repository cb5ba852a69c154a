import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Manager;
import io.socket.client.Socket;
import java.net.URI;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.json.JSONArray;
import org.json.JSONObject;

/** The scenario of ../README.md with the official Java client: URL MODE NAME. */
public final class Scenario {
  private static final String TEXT = "naïve ☃ 🜁";
  private static final byte[] BYTES = {0, 16, (byte) 255};

  private static synchronized void report(String line) {
    System.out.println(line);
    System.out.flush();
  }

  private static void check(String step, boolean holds) {
    report(holds ? step : "failed: " + step);
  }

  private static boolean isBytes(Object value) {
    return value instanceof byte[] && Arrays.equals((byte[]) value, BYTES);
  }

  private static void playOnce(Socket socket) throws Exception {
    JSONObject object = new JSONObject().put("a", new JSONArray().put(1));
    socket.emit("echo", new Object[] {TEXT, 7, object, BYTES}, (Ack) args -> check("echo",
        TEXT.equals(args[0]) && Integer.valueOf(7).equals(args[1])
            && object.toString().equals(args[2].toString()) && isBytes(args[3])));
    socket.emit("ask", new Object[] {BYTES}, (Ack) args -> check("answered",
        "answer".equals(args[0]) && isBytes(args[1])));
    Manager manager = socket.io();
    Socket other = manager.socket("/other");
    other.open();
    other.emit("echo", new Object[] {1}, (Ack) args -> check("namespace",
        "other".equals(args[0]) && Integer.valueOf(1).equals(args[1])));
  }

  public static void main(String[] arguments) throws Exception {
    IO.Options options = IO.Options.builder()
        .setTransports(arguments[1].equals("upgrade")
            ? new String[] {"polling", "websocket"} : new String[] {arguments[1]})
        .setQuery("name=" + arguments[2])
        .setReconnectionDelay(50)
        .setReconnectionDelayMax(200)
        .build();
    Socket socket = IO.socket(URI.create(arguments[0]), options);
    AtomicInteger connects = new AtomicInteger();
    socket.on("question", args -> {
      check("asked", isBytes(args[0]));
      ((Ack) args[args.length - 1]).call("answer", args[0]);
    });
    socket.on("bytes", args -> check("bytes", isBytes(args[0])));
    socket.on("news", args -> report("news " + args[0]));
    socket.on("job", args -> {
      ((Ack) args[args.length - 1]).call();
      report("job " + args[0]);
    });
    socket.on(Socket.EVENT_CONNECT, args -> {
      report("connected");
      if (connects.incrementAndGet() > 1) {
        return;
      }
      try {
        playOnce(socket);
      } catch (Exception problem) {
        report("failed: " + problem);
      }
    });
    socket.connect();
    new CountDownLatch(1).await();
  }
}
