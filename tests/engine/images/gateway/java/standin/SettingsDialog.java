package standin;

import java.awt.BorderLayout;
import java.awt.Component;
import java.awt.Dialog;
import java.awt.GridLayout;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.function.Consumer;
import javax.swing.ButtonGroup;
import javax.swing.JButton;
import javax.swing.JCheckBox;
import javax.swing.JDialog;
import javax.swing.JLabel;
import javax.swing.JPanel;
import javax.swing.JRadioButton;
import javax.swing.JTextField;
import javax.swing.JTree;
import javax.swing.tree.DefaultMutableTreeNode;

/**
 * Configure > Settings, and what it keeps in the user's own folder. Titles and controls: IBC's
 * GlobalConfigurationDialogHandler, ConfigureReadOnlyApiTask, ConfigureTwsMasterClientIDTask,
 * ConfigureApiPrecautionsTask and ConfigureAutoLogoffOrRestartTimeTask; ibcontroller: labels.json, settings.
 */
final class SettingsDialog {
    static final String RESTART = "Auto restart";
    private static final List<String> SWITCHES = List.of(
        "Read-Only API",
        "Bypass Order Precautions for API Orders",
        "Bypass Bond warning for API Orders.",
        "Bypass negative yield to worst confirmation for API Orders.",
        "Bypass Called Bond warning for API Orders",
        "Bypass \"same action pair trade\" warning for API orders.",
        "Bypass price-based volatility risk warning for API Orders.",
        "Bypass US Stocks market data in shares warning for API Orders",
        "Bypass Redirect Order warning for Stock API Orders",
        "Bypass No Overfill Protection precaution for destinations where implied natively.");

    private final Path file;
    private final Properties values = new Properties();

    SettingsDialog(Path folder) {
        file = folder.resolve("ibg.properties");
        values.setProperty("Read-Only API", "true");
        values.setProperty("action", "Auto logoff");
        values.setProperty("time", "11:45");
        values.setProperty("half", "PM");
        if (Files.exists(file)) {
            try (var reader = Files.newBufferedReader(file)) {
                values.load(reader);
            } catch (IOException failure) {
                throw new UncheckedIOException(failure);
            }
        }
    }

    String value(String name) {
        return values.getProperty(name, "");
    }

    private static JRadioButton radio(ButtonGroup group, String text, String chosen) {
        JRadioButton button = new JRadioButton(text, text.equals(chosen));
        button.setActionCommand(text);
        group.add(button);
        return button;
    }

    /** Opens it; {@code saved} is told when it was closed with OK. */
    void open(String account, Consumer<SettingsDialog> saved) {
        JDialog dialog = new JDialog((Dialog) null, account + " Trader Workstation Configuration", false);
        Map<String, JCheckBox> switches = new LinkedHashMap<>();
        JPanel body = new JPanel(new GridLayout(0, 1));
        for (String text : SWITCHES) {
            JCheckBox box = new JCheckBox(text, Boolean.parseBoolean(value(text)));
            switches.put(text, box);
            body.add(box);
        }
        JTextField master = new JTextField(value("master"), 6);
        body.add(named("Master API client ID", master));
        JTextField time = new JTextField(value("time"), 6);
        ButtonGroup half = new ButtonGroup();
        ButtonGroup action = new ButtonGroup();
        JPanel label = new JPanel();
        label.add(new JLabel(RESTART.equals(value("action"))
            ? "Set Auto Restart Time (HH:MM)" : "Set Auto Log Off Time (HH:MM)"));
        JPanel exit = new JPanel();
        for (Component part : List.of(label, time, radio(half, "AM", value("half")), radio(half, "PM", value("half")),
                radio(action, "Auto logoff", value("action")), radio(action, RESTART, value("action")))) {
            exit.add(part);
        }
        body.add(exit);
        JButton okay = new JButton("OK");
        okay.addActionListener(event -> {
            switches.forEach((text, box) -> values.setProperty(text, String.valueOf(box.isSelected())));
            values.setProperty("master", master.getText());
            values.setProperty("time", time.getText());
            values.setProperty("half", half.getSelection().getActionCommand());
            values.setProperty("action", action.getSelection().getActionCommand());
            save();
            dialog.dispose();
            saved.accept(this);
        });
        dialog.add(new JTree(tree()), BorderLayout.WEST);
        dialog.add(body, BorderLayout.CENTER);
        dialog.add(okay, BorderLayout.SOUTH);
        dialog.pack();
        dialog.setVisible(true);
    }

    private static JPanel named(String name, Component part) {
        JPanel panel = new JPanel();
        panel.setName(name);
        panel.add(part);
        return panel;
    }

    private static DefaultMutableTreeNode tree() {
        DefaultMutableTreeNode root = new DefaultMutableTreeNode("Configuration");
        root.add(new DefaultMutableTreeNode("Lock and Exit"));
        DefaultMutableTreeNode api = new DefaultMutableTreeNode("API");
        api.add(new DefaultMutableTreeNode("Settings"));
        api.add(new DefaultMutableTreeNode("Precautions"));
        root.add(api);
        return root;
    }

    private void save() {
        try {
            Files.createDirectories(file.getParent());
            try (Writer writer = Files.newBufferedWriter(file)) {
                values.store(writer, null);
            }
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }
}
