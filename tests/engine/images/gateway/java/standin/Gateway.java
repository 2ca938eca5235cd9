package standin;

import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeParseException;
import java.util.Locale;
import java.util.Timer;
import java.util.TimerTask;
import javax.swing.SwingUtilities;

/**
 * Stands in for IB Gateway's program: its windows by scenario, its launcher.log, its saved session,
 * its two daily actions, and a simulator behind the API port once the login is complete.
 *
 * <p>Commands for a gateway that runs (the scenario's file {@code do}): {@code restart}, {@code logoff},
 * {@code taken} (by another, who logged in elsewhere), {@code existing} (the other one wants it back),
 * {@code write-access}, {@code messages}, {@code window TITLE}, {@code close}, {@code crash N},
 * {@code api-stop}.
 */
public final class Gateway {
    private static byte[][] memory;

    private final Path settings;
    private final Scenario scenario = Scenario.ofThisSession();
    private final LauncherLog launcher;
    private final Token token;
    private final String restart = System.getProperty("restart", "");
    private final Timer timer = new Timer("gateway", true);
    private final Api api = new Api();
    private MainWindow main;
    private SettingsDialog configuration;
    private String user = "";
    private boolean loggedIn;
    private TimerTask daily;

    public Gateway(Path settings) {
        this.settings = settings.toAbsolutePath().normalize();
        this.launcher = new LauncherLog(this.settings);
        this.token = new Token(this.settings);
    }

    /** Returns at once, as the real one does; the windows come by themselves. */
    public void start() {
        memory = hold();
        scenario.record("launch", (restart.isEmpty() ? "cold " : "token ") + ProcessHandle.current().pid());
        launcher.started(!restart.isEmpty());
        Scenario.Step step = scenario.peek();
        if (step.name().equals("entry")) {
            scenario.take();
            throw new IllegalStateException("the program cannot be started");
        }
        every(500, this::obey);
        every(300_000, () -> {
            if (!loggedIn) {
                launcher.alive();
            }
        });
        if (step.name().equals("nodialog")) {
            scenario.take();
            return;
        }
        after(startDelay(), () -> new Login(this).show(step));
    }

    // --- what the login needs -------------------------------------------------------------------
    Scenario scenario() {
        return scenario;
    }

    LauncherLog launcher() {
        return launcher;
    }

    String restartFolder() {
        return restart;
    }

    boolean takeToken() {
        try {
            return token.take(restart);
        } catch (IOException failure) {
            return false;
        }
    }

    MainWindow main() {
        if (main == null) {
            main = new MainWindow(this::close, () -> Windows.confirmRestart(this::restart),
                () -> SwingUtilities.invokeLater(() -> configuration.open(account(), this::schedule)),
                !"no".equals(System.getenv("GANGWAY_STANDIN_RESTART_MENU")));
        }
        return main;
    }

    /** Opens the API port; {@code then} on the event thread, when it is open. */
    void openPort(boolean live, Runnable then) {
        Thread starter = new Thread(() -> {
            try {
                api.start(live);
                SwingUtilities.invokeLater(then);
            } catch (IOException failure) {
                exit(1, failure.toString());
            }
        }, "api");
        starter.setDaemon(true);
        starter.start();
    }

    /** The login is complete: the log goes silent and the menus answer. */
    void loggedIn(String name) {
        user = name;
        configuration = new SettingsDialog(settings.resolve(folder()));
        launcher.loggedIn();
        loggedIn = true;
        main().ready(account());
        schedule(configuration);
        scenario.record("login", "complete");
    }

    void exit(int code, String why) {
        scenario.record("exit", code + " " + why);
        Runtime.getRuntime().halt(code);
    }

    /** Runs it on the event thread later. */
    void after(long milliseconds, Runnable action) {
        timer.schedule(task(action), milliseconds);
    }

    TimerTask every(long milliseconds, Runnable action) {
        TimerTask task = task(action);
        timer.schedule(task, milliseconds, milliseconds);
        return task;
    }

    private static TimerTask task(Runnable action) {
        return new TimerTask() {
            @Override
            public void run() {
                SwingUtilities.invokeLater(action);
            }
        };
    }

    /** The real program takes long to start; ibcontroller's agent must be connected by then. */
    private static long startDelay() {
        boolean agent = System.getProperty("ibcontroller.logfile") != null;
        return Long.parseLong(System.getenv().getOrDefault("GANGWAY_STANDIN_DELAY", agent ? "2500" : "300"));
    }

    private String folder() {
        return restart.isEmpty() ? Token.folderOf(user) : restart;
    }

    private static String account() {
        return "DU0000001";
    }

    // --- while it runs --------------------------------------------------------------------------
    private void restart() {
        try {
            if (restart.isEmpty()) {
                token.save(user);
            } else {
                token.renew(restart);
            }
        } catch (IOException failure) {
            exit(1, failure.toString());
        }
        exit(0, "restart");
    }

    private void close() {
        Windows.shutdown();
        after(300, () -> exit(0, "closed"));
    }

    private void existing() {
        Windows.existingSession(false, () -> { }, () -> exit(0, "other session"));
    }

    private void schedule(SettingsDialog saved) {
        if (daily != null) {
            daily.cancel();
        }
        LocalTime at;
        try {
            at = LocalTime.parse(saved.value("time") + " " + saved.value("half"),
                DateTimeFormatter.ofPattern("hh:mm a", Locale.US));
        } catch (DateTimeParseException failure) {
            return;
        }
        LocalDateTime now = LocalDateTime.now();
        LocalDateTime next = now.with(at);
        next = next.isAfter(now) ? next : next.plusDays(1);
        boolean soft = SettingsDialog.RESTART.equals(saved.value("action"));
        daily = task(soft ? this::restart : () -> exit(0, "logoff"));
        timer.schedule(daily, Duration.between(now, next).toMillis());
    }

    private void obey() {
        String command = scenario.command();
        String[] words = command.split(" ", 2);
        switch (words[0]) {
            case "restart" -> restart();
            case "logoff" -> exit(0, "logoff");
            case "close" -> close();
            case "taken" -> Windows.reloginRequired(this::existing);
            case "existing" -> existing();
            case "write-access" -> Windows.writeAccess();
            case "messages" -> Windows.loginMessages();
            case "window" -> Windows.other(words[1]);
            case "crash" -> exit(Integer.parseInt(words[1]), "crash");
            case "api-stop" -> api.stop();
            default -> { }
        }
    }

    /** A real Gateway's heap is mostly full: a third of the allowed heap is held and touched. */
    private static byte[][] hold() {
        int megabytes = (int) Math.min(96, Runtime.getRuntime().maxMemory() / 3 / 1_048_576);
        byte[][] blocks = new byte[megabytes][1_048_576];
        for (byte[] block : blocks) {
            java.util.Arrays.fill(block, (byte) 1);
        }
        return blocks;
    }

    static int held() {
        return memory.length;
    }
}
