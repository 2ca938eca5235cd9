package standin;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.swing.JFrame;
import javax.swing.JLabel;
import javax.swing.JMenu;
import javax.swing.JMenuBar;
import javax.swing.JMenuItem;
import javax.swing.WindowConstants;

/**
 * The main window. It is there, titled "Loading...", before the login is complete (public log: IBC's
 * issue 207), but its menus answer only afterwards (IBC: SessionManager.awaitReady). Menus: IBC's
 * GatewayMainWindowFrameHandler (Help > About Gateway), GetConfigDialogTask (Configure > Settings),
 * StopTask (File > Close), RestartTask (File > Restart...); ibcontroller: labels.json, shutdown, settings.
 */
final class MainWindow extends JFrame {
    private static final long serialVersionUID = 1L;
    private final transient Map<String, JMenuItem> items = new LinkedHashMap<>();

    MainWindow(Runnable close, Runnable restart, Runnable settings, boolean canRestart) {
        super("Loading...");
        setDefaultCloseOperation(WindowConstants.DO_NOTHING_ON_CLOSE);
        JMenuBar bar = new JMenuBar();
        bar.add(menu("File", canRestart ? List.of("Restart...", "Close") : List.of("Close")));
        bar.add(menu("Configure", List.of("Settings")));
        bar.add(menu("Help", List.of("About Gateway")));
        setJMenuBar(bar);
        on("Close", close);
        on("Restart...", restart);
        on("Settings", settings);
        add(new JLabel("API Server: disconnected"));
        setSize(600, 400);
    }

    private JMenu menu(String name, List<String> entries) {
        JMenu menu = new JMenu(name);
        for (String entry : entries) {
            JMenuItem item = new JMenuItem(entry);
            item.setEnabled(false);
            items.put(entry, item);
            menu.add(item);
        }
        return menu;
    }

    private void on(String entry, Runnable action) {
        JMenuItem item = items.get(entry);
        if (item != null) {
            item.addActionListener(event -> action.run());
        }
    }

    /** The login is complete: the menus answer. */
    void ready(String account) {
        setTitle(account + " IBKR Gateway");
        items.values().forEach(item -> item.setEnabled(true));
    }
}
