import org.zeromq.ZMQ;

/**
 * Counts the words of each request, as a worker of its own, with JeroMQ (Debian's libjeromq-java):
 *     java -cp /usr/share/java/jeromq.jar examples/workers/Worker.java tcp://127.0.0.1:5556
 */
public class Worker {
    private static volatile boolean leaving;

    public static void main(String[] arguments) throws InterruptedException {
        ZMQ.Context context = ZMQ.context(1);
        ZMQ.Socket socket = context.socket(ZMQ.REP);
        socket.setLinger(1000);
        socket.connect(arguments[0]);
        Thread worker = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> leave(worker)));
        while (!leaving) answer(socket, 100);
        Thread.sleep(100); // To a worker that is silent for that long repd sends nothing more.
        while (answer(socket, 0)) {}
        socket.close();
        context.term();
    }

    /** Answers a request that comes in time; returns false if there is none. */
    private static boolean answer(ZMQ.Socket socket, int milliseconds) {
        socket.setReceiveTimeOut(milliseconds);
        String text = socket.recvStr();
        if (text == null) return false;
        while (socket.hasReceiveMore()) text += " " + socket.recvStr();
        String words = text.strip();
        return socket.send(String.valueOf(words.isEmpty() ? 0 : words.split("\\s+").length));
    }

    /** Has the worker end, which the virtual machine would not wait for, and exits with 0. */
    private static void leave(Thread worker) {
        leaving = true;
        try {
            worker.join();
        } catch (InterruptedException e) {
            Runtime.getRuntime().halt(1);
        }
        Runtime.getRuntime().halt(0);
    }
}
